"""What the search does: weights and architecture parameters in turns, and after each epoch what they amount to.

Every step first moves the architecture parameters (Adam, on one half of the training images), then the weights (SGD,
on the other half). Both descend on the same four passes; the architecture also on the student's expected latency.

Source: FasterSeg, section 3.4.
"""

from collections.abc import Mapping
from typing import Any

import torch
from lightning_fabric import Fabric

from fasterseg.engine.loop import Position, Stage
from fasterseg.engine.optimization import clip_gradients, exponential_lr, set_lr
from fasterseg.engine.run_folder import RunFolder
from fasterseg.networks.architecture import Architecture
from fasterseg.networks.space import ArchitectureSet, Branches
from search.budget import BudgetControl
from search.config import SearchConfig
from search.data import SearchBatch, SearchData
from search.expected_latency import latency_regularizer
from search.fitting import BudgetFitter, FittedArchitecture
from search.parameters import choice_entropies
from search.plots import plot_epochs, plot_operators, plot_paths, plot_widths, save_plot
from search.pretrain import SETS
from search.selection import StudentCandidate, derive_teacher, fit_students, rank_students, score_heads
from search.supernet import Supernet
from search.training import Pass, SupernetLoss, frozen, set_up, weights_optimizer

PASSES = (Pass("teacher", "sampled"), Pass("student", "sampled"), Pass("student", "max"), Pass("student", "min"))
PLOTS_FOLDER = "plots"


class SearchStage(Stage[SearchBatch]):
    """Searches both architectures.

    Args:
        supernet: Pretrained.
        config: Schedule, loss and objective.
        data: Batches of both halves, and validation images.
        fitter: Knows the student's expected latency and its budget.
        loss: The loss of a pass.
        fabric: The device.
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
        fabric.to_device(supernet)
        self.control = BudgetControl(config.latency, fitter.budget_ms)
        self.weights_optimizer = set_up(weights_optimizer(supernet, config), fabric)
        adam = torch.optim.Adam(
            supernet.architecture_parameters(),
            lr=config.architecture.lr,
            betas=config.architecture.betas,
            weight_decay=0,
            fused=True,
        )
        self.architecture_optimizer = set_up(adam, fabric)
        self.students: dict[Branches, FittedArchitecture] = {}
        self.best_student: StudentCandidate | None = None
        self.teacher_miou: float | None = None
        self.history: list[dict[str, float]] = []

    def step(self, batch: SearchBatch, position: Position) -> Mapping[str, torch.Tensor]:  # noqa: ARG002 - the hook's
        """One step of Adam on the architecture, one of SGD on the weights; see `Stage.step`."""
        architecture_losses = self._architecture_step(batch)
        losses = self._weights_step(batch)
        return {
            "loss": torch.stack(list(losses.values())).sum(),
            **losses,
            **{f"architecture_{name}": value for name, value in architecture_losses.items()},
        }

    def _architecture_step(self, batch: SearchBatch) -> dict[str, torch.Tensor]:
        image, label, _ = batch.architecture
        sampled_only = self.config.architecture.passes == "sampled"
        passes = [one for one in PASSES if one.width_mode == "sampled" or not sampled_only]
        self.architecture_optimizer.zero_grad(set_to_none=True)
        with frozen(self.supernet.weights()):
            losses = self.loss.backward(self.supernet, image, label, passes=passes)
        probabilities = self.supernet.architecture("student").probabilities()
        latency_ms = latency_regularizer(self.fitter.expected, probabilities, self.config.latency.regularizer)
        latency_term = self.control.term(latency_ms)
        self.fabric.backward(latency_term)
        self.architecture_optimizer.step()
        self.architecture_optimizer.zero_grad(set_to_none=True)
        device = self.fabric.device
        return {
            "loss": torch.stack(list(losses.values())).sum(),
            "latency": latency_term.detach().to(device, torch.float32),
        }

    def _weights_step(self, batch: SearchBatch) -> dict[str, torch.Tensor]:
        image, label, _ = batch.weights
        self.weights_optimizer.zero_grad(set_to_none=True)
        with frozen(self.supernet.architecture_parameters()):
            losses = self.loss.backward(self.supernet, image, label, passes=PASSES)
        clip_gradients(self.fabric, self.supernet, self.weights_optimizer, max_norm=self.config.grad_clip)
        self.weights_optimizer.step()
        return losses

    def start_epoch(self, position: Position) -> None:
        """Sets the epoch's learning rate; see `Stage.start_epoch`."""
        self.supernet.train()
        rate = exponential_lr(self.config.lr, decay=self.config.lr_decay, epoch=position.epoch)
        set_lr(self.weights_optimizer, rate)

    def end_epoch(self, position: Position) -> Mapping[str, float]:
        """Derives the students, fits them into the budget and adapts the latency's weight; see `Stage.end_epoch`."""
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
            "weights_optimizer": self.weights_optimizer.state_dict(),
            "architecture_optimizer": self.architecture_optimizer.state_dict(),
            "control": self.control.state(),
            "teacher_miou": self.teacher_miou,
            "history": self.history,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state` gave."""
        self.supernet.load_state_dict(state["supernet"])
        self.weights_optimizer.load_state_dict(state["weights_optimizer"])
        self.architecture_optimizer.load_state_dict(state["architecture_optimizer"])
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
