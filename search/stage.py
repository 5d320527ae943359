"""The search stage: trains weights and architecture parameters in turns, and evaluates both after each epoch.

Every step first updates the architecture parameters (Adam, on one half of the training images), then the weights (SGD,
on the other half). Both losses are of the same four passes; the architecture's adds the student's expected latency.

Source: FasterSeg, section 3.4.
"""

from collections.abc import Mapping
from typing import Any

import torch
from lightning_fabric import Fabric

from fasterseg.engine.distributed import share_buffers
from fasterseg.engine.loop import Position, Stage
from fasterseg.engine.optimization import exponential_lr, set_lr
from fasterseg.engine.run_folder import RunFolder
from fasterseg.networks.architecture import Architecture
from fasterseg.networks.space import ArchitectureSet, Branches
from search.budget import BudgetControl
from search.config import SearchConfig
from search.data import SearchBatch, SearchData
from search.expected_latency import latency_regularizer
from search.fitting import BudgetFitter, FittedArchitecture
from search.parameters import ArchitectureProbabilities, choice_entropies
from search.plots import plot_epochs, plot_operators, plot_paths, plot_widths, save_plot
from search.selection import StudentCandidate, derive_teacher, fit_students, rank_students, score_heads
from search.steps import SEARCH_PASSES, SETS, ArchitectureStep, WeightsStep
from search.supernet import Supernet
from search.training import SupernetLoss, prepare_supernet

PLOTS_FOLDER = "plots"


class SearchStage(Stage[SearchBatch]):
    """Searches both architectures.

    Args:
        supernet: Pretrained.
        config: Schedule, loss and objective.
        data: Batches of both halves, and validation images.
        fitter: Knows the student's expected latency and its budget.
        loss: The loss of a pass.
        fabric: The processes and their devices.
        run_folder: Where the architectures and plots go.
    """

    def __init__(
        self,
        supernet: Supernet,
        *,
        config: SearchConfig,
        data: SearchData,
        fitter: BudgetFitter,
        loss: SupernetLoss,
        fabric: Fabric,
        run_folder: RunFolder,
    ) -> None:
        self.supernet, self.config, self.data, self.fitter = supernet, config, data, fitter
        self.loss, self.fabric, self.run_folder = loss, fabric, run_folder
        prepare_supernet(supernet, fabric)
        self.control = BudgetControl(config.latency, fitter.budget_ms)
        self.weights = WeightsStep(supernet, config, loss=loss, fabric=fabric, draws=config.draws)
        self.architecture = ArchitectureStep(
            supernet, config, loss=loss, latency_term=self._latency_term, fabric=fabric
        )
        self.students: dict[Branches, FittedArchitecture] = {}
        self.best_student: StudentCandidate | None = None
        self.teacher_miou: float | None = None
        self.history: list[dict[str, float]] = []

    def step(self, batch: SearchBatch, position: Position) -> Mapping[str, torch.Tensor]:  # noqa: ARG002 - the hook's
        """One step of Adam on the architecture, one of SGD on the weights; see `Stage.step`."""
        architecture_losses = self.architecture.run(batch.architecture)
        losses = self.weights.run(batch.weights, passes=SEARCH_PASSES)
        return {
            "loss": torch.stack(list(losses.values())).sum(),
            **losses,
            **{f"architecture_{name}": value for name, value in architecture_losses.items()},
        }

    def _latency_term(self, probabilities: ArchitectureProbabilities) -> torch.Tensor:
        latency_ms = latency_regularizer(self.fitter.expected, probabilities, self.config.latency.regularizer)
        return self.control.term(latency_ms)

    def start_epoch(self, position: Position) -> None:
        """Sets the epoch's learning rate; see `Stage.start_epoch`."""
        self.supernet.train()
        rate = exponential_lr(self.config.lr, decay=self.config.lr_decay, epoch=position.epoch)
        set_lr(self.weights.optimizer, rate)

    def end_epoch(self, position: Position) -> Mapping[str, float]:
        """Derives the students, fits them into the budget and adapts the latency's weight; see `Stage.end_epoch`."""
        share_buffers(self.supernet, self.fabric)
        self.students = fit_students(self.supernet, self.fitter)
        for pair, student in self.students.items():
            self.run_folder.log(f"branches {pair[0]} and {pair[1]}: {student.describe()}")
        derived_ms = sum(student.derived_ms for student in self.students.values()) / len(self.students)
        with torch.no_grad():
            expected_ms = self.fitter.expected(self.supernet.architecture("student").probabilities())
        figures = {
            "lr": exponential_lr(self.config.lr, decay=self.config.lr_decay, epoch=position.epoch),
            "latency_weight": self.control.weight,
            "aim_ms": self.control.aim_ms,
            "expected_ms": float(expected_ms),
            "derived_ms": derived_ms,
            "budget_ms": self.control.budget_ms,
        }
        for name in SETS:
            entropies = choice_entropies(self.supernet.architecture(name))
            self.run_folder.metrics(position.step + 1, entropies, prefix=f"entropy/{name}")
        self.control.adapt(derived_ms)
        self.history.append({"epoch": position.epoch + 1, **figures})
        return figures

    def validate(self, position: Position) -> Mapping[str, float]:
        """Scores the supernet's heads, ranks the students and keeps the epoch's architectures; see `Stage.validate`."""
        miou = {name: self._score_heads(name) for name in SETS}
        ranked = rank_students(
            self.students,
            miou=miou["student"],
            budget_ms=self.control.budget_ms,
            exponent=self.config.latency_exponent,
        )
        self.best_student = ranked[0]
        teacher, teacher_miou = derive_teacher(self.supernet, miou["teacher"])
        self._write("student_last", ranked[0].fitted.architecture)
        self._write("teacher_last", teacher)
        if self.teacher_miou is None or teacher_miou > self.teacher_miou:
            self.teacher_miou = teacher_miou
            self._write("teacher", teacher)
        figures = {
            "score": ranked[0].score,
            "miou": ranked[0].miou,
            "predicted_ms": ranked[0].fitted.predicted_ms,
            "teacher_miou": teacher_miou,
        }
        for name, heads in miou.items():
            self.run_folder.metrics(position.step + 1, heads, prefix=f"miou/{name}")
        self.history[-1] |= figures
        self._draw(position.step + 1)
        return figures

    def merit(self, position: Position, figures: Mapping[str, float]) -> float | None:  # noqa: ARG002 - the hook's
        """The score of the epoch's student; see `Stage.merit`."""
        return figures.get("score")

    def save_best(self, position: Position, figures: Mapping[str, float]) -> None:  # noqa: ARG002 - the hook's
        """Writes `architecture_student.json`."""
        assert self.best_student is not None
        self._write("student", self.best_student.fitted.architecture)

    def state(self) -> dict[str, Any]:
        """Supernet, optimizers, the latency's weight, and what the plots show."""
        return {
            "supernet": self.supernet.state_dict(),
            "weights_optimizer": self.weights.optimizer.state_dict(),
            "architecture_optimizer": self.architecture.optimizer.state_dict(),
            "control": self.control.state(),
            "teacher_miou": self.teacher_miou,
            "history": self.history,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state` gave."""
        self.supernet.load_state_dict(state["supernet"])
        self.weights.optimizer.load_state_dict(state["weights_optimizer"])
        self.architecture.optimizer.load_state_dict(state["architecture_optimizer"])
        self.control.load_state(state["control"])
        self.teacher_miou = state["teacher_miou"]
        self.history = [dict(figures) for figures in state["history"]]

    def _score_heads(self, architecture_set: ArchitectureSet) -> dict[str, float]:
        return score_heads(
            self.supernet,
            self.data.validation,
            architecture_set=architecture_set,
            description=self.data.description,
            device=self.fabric.device,
        )

    def _write(self, name: str, architecture: Architecture) -> None:
        if self.run_folder.writes:
            architecture.save(self.run_folder.path / f"architecture_{name}.json")

    def _draw(self, step: int) -> None:
        """Draws both sets' parameters and the epochs so far, as files and in TensorBoard."""
        if not self.run_folder.writes:
            return
        assert self.best_student is not None
        figures = {"epochs": plot_epochs(self.history)}
        for name in SETS:
            logits = self.supernet.architecture(name).logits()
            figures[f"{name}_paths"] = plot_paths(logits, self.supernet.space)
            figures[f"{name}_operators"] = plot_operators(logits, self.supernet.space)
        figures["student_widths"] = plot_widths(self.supernet.architecture("student").logits(), self.supernet.space)
        for plot, figure in figures.items():
            picture = save_plot(figure, self.run_folder.path / PLOTS_FOLDER / f"{plot}.png")
            self.run_folder.picture(f"architecture/{plot}", picture, step)
