"""The one training loop: pretraining, search, teacher and student are stages that it runs, epoch by epoch.

A stage says what a step, a validation and its state are; the loop fetches, counts, logs, keeps the best, saves after
every epoch, and goes on exactly where a run was cut off.
"""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import torch
from lightning_fabric import Fabric

from fasterseg.base.console import ProgressReporter, epoch_progress, format_duration
from fasterseg.engine.checkpoint import load_state, save_state
from fasterseg.engine.devices import random_state, restore_random_state
from fasterseg.engine.distributed import mean_over_processes, share_random_state
from fasterseg.engine.run_folder import RunFolder

Batch = TypeVar("Batch")
BatchOut = TypeVar("BatchOut", covariant=True)


class EpochLoader(Protocol[BatchOut]):
    """Batches of one epoch at a time; the epoch alone decides which."""

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch (counted from 0) that the next iteration gives."""

    def __iter__(self) -> Iterator[BatchOut]: ...

    def __len__(self) -> int: ...


class Position(NamedTuple):
    """Where in a stage a step is.

    Attributes:
        epoch: Counted from 0.
        step: Counted from 0 over all epochs.
        epochs: How many epochs the stage has.
        steps_per_epoch: How many steps an epoch has.
    """

    epoch: int
    step: int
    epochs: int
    steps_per_epoch: int

    @property
    def total_steps(self) -> int:
        """Steps of the whole stage."""
        return self.epochs * self.steps_per_epoch


class Stage(ABC, Generic[Batch]):
    """What the loop runs. Everything that changes while training must be in `state`.

    Where several processes run it, all call everything but `save_best`, with the same positions and random numbers, and
    must come to the same weights and figures.
    """

    @abstractmethod
    def step(self, batch: Batch, position: Position) -> Mapping[str, torch.Tensor]:
        """Trains on one batch.

        Returns:
            The losses by name, as scalars without gradient on any one device; the same names each time. The loop
            averages them over steps and processes for the log and stops at the first one that is not finite.
        """

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Everything that changes while training, as tensors and plain values."""

    @abstractmethod
    def load_state(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state` gave."""

    def start_epoch(self, position: Position) -> None:
        """Prepares an epoch, such as its learning rate; `position` is that of its first step."""

    def end_epoch(self, position: Position) -> Mapping[str, float]:  # noqa: ARG002 - a hook
        """Closes an epoch; `position` is that of its last step.

        Returns:
            Figures to log, such as a learning rate or an expected latency.
        """
        return {}

    def validate(self, position: Position) -> Mapping[str, float]:  # noqa: ARG002 - a hook
        """Measures the current state after an epoch; `position` is that of its last step.

        Returns:
            Figures to log; `merit` reads them.
        """
        return {}

    def merit(self, position: Position, figures: Mapping[str, float]) -> float | None:  # noqa: ARG002 - a hook
        """How good the current state is; the state of the highest merit is kept as the best.

        Args:
            position: Of the epoch's last step.
            figures: What `end_epoch` and, where it ran, `validate` gave.

        Returns:
            The merit, or None where the state is no candidate (such as without validation).
        """
        return figures.get("miou")

    def save_best(self, position: Position, figures: Mapping[str, float]) -> None:
        """Writes the stage's product; called in the writing process alone, whenever the merit rose."""


@dataclass
class _Progress:
    """How far the loop is; what `last.pt` holds besides the stage's own state."""

    epoch: int = 0
    best_merit: float | None = None
    best_epoch: int | None = None
    best_figures: dict[str, float] = field(default_factory=dict)
    duration_s: float = 0.0


@dataclass(frozen=True)
class StageResult:
    """How a stage ended.

    Attributes:
        best_merit: The highest merit; None where there was no candidate.
        best_epoch: The epoch that gave it, counted from 0.
        best_figures: The figures of that epoch.
        duration_s: Training and validation time over all runs, seconds.
    """

    best_merit: float | None
    best_epoch: int | None
    best_figures: Mapping[str, float]
    duration_s: float


def run_stage(
    stage: Stage[Batch],
    loader: EpochLoader[Batch],
    run_folder: RunFolder,
    *,
    fabric: Fabric,
    epochs: int,
    validate_every: int = 1,
    log_every: int = 20,
) -> StageResult:
    """Runs a stage to its end, from its start or from the last finished epoch in the run folder.

    Args:
        stage: What to run.
        loader: Its batches.
        run_folder: Where its state and logs go.
        fabric: The devices it runs on; the first process writes.
        epochs: How many epochs the stage has.
        validate_every: Validates after every so many epochs, and after the last one.
        log_every: Steps whose mean loss makes one line of `metrics.jsonl`.

    Raises:
        ValueError: A loss is not finite; the message names it and the step. `last.pt` keeps the epoch before.
    """
    progress = _resume(stage, run_folder, steps_per_epoch=len(loader), fabric=fabric)
    steps = len(loader)
    with epoch_progress(run_folder.stage, epochs * steps, completed=progress.epoch * steps) as reporter:
        for epoch in range(progress.epoch, epochs):
            started_s = time.monotonic()
            loader.set_epoch(epoch)
            first = Position(epoch, epoch * steps, epochs, steps)
            share_random_state(fabric)
            stage.start_epoch(first)
            losses = _run_epoch(
                stage, loader, run_folder, fabric=fabric, first=first, log_every=log_every, reporter=reporter
            )
            last = first._replace(step=first.step + steps - 1)
            figures = dict(stage.end_epoch(last))
            if (epoch + 1) % validate_every == 0 or epoch + 1 == epochs:
                figures |= stage.validate(last)
            run_folder.metrics(last.step + 1, figures, prefix="epoch")
            _keep_best(stage, progress, last, figures, writes=run_folder.writes)
            progress.epoch = epoch + 1
            progress.duration_s += time.monotonic() - started_s
            run_folder.log(_epoch_line(last, {**losses, **figures}, time_left_s=reporter.time_left_s))
            _save(stage, run_folder, progress, fabric=fabric)
    return StageResult(progress.best_merit, progress.best_epoch, progress.best_figures, progress.duration_s)


def _run_epoch(
    stage: Stage[Batch],
    loader: EpochLoader[Batch],
    run_folder: RunFolder,
    *,
    fabric: Fabric,
    first: Position,
    log_every: int,
    reporter: ProgressReporter,
) -> dict[str, float]:
    """Runs all steps of an epoch and returns its mean losses."""
    # losses stay on their device until a line is due: reading one back every step would stall a GPU
    names: tuple[str, ...] = ()
    pending: list[torch.Tensor] = []
    sums: dict[str, float] = {}
    position = first
    for index, batch in enumerate(loader):
        position = first._replace(step=first.step + index)
        losses = stage.step(batch, position)
        names = tuple(losses)
        pending.append(torch.stack([loss.detach() for loss in losses.values()]))
        if len(pending) == log_every or index + 1 == first.steps_per_epoch:
            losses_of_steps = mean_over_processes(torch.stack(pending).double(), fabric)
            means = _read_losses(names, losses_of_steps, position, stage_name=run_folder.stage)
            run_folder.metrics(position.step + 1, means, prefix="train")
            for name, value in means.items():
                sums[name] = sums.get(name, 0.0) + value * len(pending)
            reporter.advance(0, note=f"epoch {position.epoch + 1}/{position.epochs}, {names[0]} {means[names[0]]:.4f}")
            pending = []
        reporter.advance()
    assert position.step + 1 == first.step + first.steps_per_epoch, "the loader gave another number of batches"
    return {name: value / first.steps_per_epoch for name, value in sums.items()}


def _read_losses(
    names: tuple[str, ...], losses: torch.Tensor, position: Position, *, stage_name: str
) -> dict[str, float]:
    """The mean of each loss over the last steps.

    Args:
        names: Of the losses.
        losses: (steps, names).
        position: Of the last of the steps.
        stage_name: For the message.

    Raises:
        ValueError: One of them is not finite.
    """
    values = losses.cpu()
    finite = torch.isfinite(values)
    if not bool(finite.all()):
        row = int((~finite).any(dim=1).nonzero()[0])
        bad = [name for name, ok in zip(names, finite[row].tolist(), strict=True) if not ok]
        shown = ", ".join(f"{name} = {values[row, names.index(name)].item()}" for name in bad)
        step = position.step - len(values) + 1 + row
        raise ValueError(
            f"{stage_name}: loss is not finite at step {step} (epoch {position.epoch + 1}): {shown}. last.pt keeps the "
            f"epoch before. Lower {stage_name}.lr or set {stage_name}.grad_clip (such as 5) and start in a new folder"
        )
    return dict(zip(names, values.mean(dim=0).tolist(), strict=True))


def _keep_best(
    stage: Stage[Batch], progress: _Progress, position: Position, figures: Mapping[str, float], *, writes: bool
) -> None:
    """Has the stage write its product when its merit rose."""
    merit = stage.merit(position, figures)
    if merit is None or math.isnan(merit) or (progress.best_merit is not None and merit <= progress.best_merit):
        return
    progress.best_merit, progress.best_epoch = merit, position.epoch
    progress.best_figures = dict(figures)
    if writes:
        stage.save_best(position, figures)


def _epoch_line(position: Position, figures: Mapping[str, float], *, time_left_s: float | None) -> str:
    """One line for people: the epoch and its figures, those of single classes and the like (`iou/car`) left out."""
    shown = ", ".join(f"{name} {value:.4g}" for name, value in figures.items() if "/" not in name)
    left = "" if time_left_s is None else f", {format_duration(time_left_s)} left"
    return f"epoch {position.epoch + 1}/{position.epochs}: {shown}{left}"


def _save(stage: Stage[Batch], run_folder: RunFolder, progress: _Progress, *, fabric: Fabric) -> None:
    """Writes `last.pt`; every process takes part, the first one writes."""
    state = {
        "kind": "training",
        "stage": stage.state(),
        "loop": dict(vars(progress)),
        "random": random_state(),
        "processes": fabric.world_size,
    }
    if run_folder.writes:
        save_state(run_folder.last, state)
    fabric.barrier()


def _resume(stage: Stage[Batch], run_folder: RunFolder, *, steps_per_epoch: int, fabric: Fabric) -> _Progress:
    """Takes over the last finished epoch of the run folder, where there is one; every process reads it."""
    if not run_folder.last.is_file():
        run_folder.rewind(0)
        return _Progress()
    state = load_state(run_folder.last)
    if state.get("kind") != "training":
        raise ValueError(f"{run_folder.last} is not a training state; delete the folder or choose another --out")
    stage.load_state(state["stage"])
    restore_random_state(state["random"])
    progress = _Progress(**state["loop"])
    run_folder.rewind(progress.epoch * steps_per_epoch)
    before, now = state.get("processes", 1), fabric.world_size
    changed = "" if before == now else f", with {now} process(es) instead of {before}"
    run_folder.log(f"goes on after epoch {progress.epoch} of {run_folder.last}{changed}")
    return progress
