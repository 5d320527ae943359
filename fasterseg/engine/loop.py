"""The one training loop: pretraining, search, teacher and student are stages that it runs, epoch by epoch.

A stage defines its training step, its validation and its state. The loop fetches batches, counts steps, logs, keeps the
best network, saves states (see `fasterseg.engine.resuming`) and resumes an interrupted run exactly.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import torch
from lightning_fabric import Fabric

from fasterseg.base.console import ProgressReporter, epoch_progress, format_duration
from fasterseg.base.stopping import deferring
from fasterseg.engine.distributed import share_random_state
from fasterseg.engine.resuming import Position, Progress, StateKeeper
from fasterseg.engine.run_folder import RunFolder

__all__ = ["EpochLoader", "Position", "Stage", "StageResult", "run_stage"]

Batch = TypeVar("Batch")
BatchOut = TypeVar("BatchOut", covariant=True)


class EpochLoader(Protocol[BatchOut]):
    """Batches of one epoch at a time; epoch and batch index alone determine a batch."""

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Chooses the epoch that the next iteration gives, and its first batch; both are counted from 0."""

    def __iter__(self) -> Iterator[BatchOut]: ...

    def __len__(self) -> int:
        """Batches of a whole epoch."""


class Stage(ABC, Generic[Batch]):
    """A training stage that the loop runs; `state` must hold everything that changes during training.

    With several processes, each calls all methods except `save_best`, with the same positions and random numbers. They
    must arrive at the same weights and metrics.
    """

    @abstractmethod
    def step(self, batch: Batch, position: Position) -> Mapping[str, torch.Tensor]:
        """Trains on one batch: one optimizer step.

        Returns:
            The losses by name, as scalars without gradient on any one device; the same names each time. The loop
            averages them over steps and processes for the log and stops at the first one that is not finite.
        """

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Everything that changes while training, as tensors and plain values."""

    @abstractmethod
    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores what `state` returned."""

    def start_epoch(self, position: Position) -> None:
        """Prepares an epoch, such as its learning rate; `position` is that of the epoch's first step.

        A run that resumes within an epoch calls this again, after `load_state`. So its effect must depend on the
        position alone.
        """

    def end_epoch(self, position: Position) -> Mapping[str, float]:  # noqa: ARG002 - a hook
        """Ends an epoch; `position` is that of the epoch's last step.

        Returns:
            Figures to log, such as a learning rate or an expected latency.
        """
        return {}

    def validate(self, position: Position) -> Mapping[str, float]:  # noqa: ARG002 - a hook
        """Evaluates the current weights after an epoch; `position` is that of the epoch's last step.

        Returns:
            Metrics to log, which `merit` reads.
        """
        return {}

    def merit(self, position: Position, figures: Mapping[str, float]) -> float | None:  # noqa: ARG002 - a hook
        """How good the current state is; the state of the highest merit is kept as the best.

        Args:
            position: Of the epoch's last step.
            figures: What `end_epoch` returned and, if it ran, `validate`.

        Returns:
            The merit; None if the state cannot be the best, such as without validation.
        """
        return figures.get("miou")

    def save_best(self, position: Position, figures: Mapping[str, float]) -> None:
        """Writes the stage's result; called only in the writing process, at every new highest merit."""


@dataclass(frozen=True)
class StageResult:
    """How a stage ended.

    Attributes:
        best_merit: The highest merit; None if there was none.
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
    save_every_minutes: float = 10.0,
) -> StageResult:
    """Runs a stage to its end, from its start or from the last state in the run folder.

    After Ctrl-C, SIGTERM or SIGHUP it finishes the step, saves and raises `Stopped`; a second signal ends the process.

    Args:
        stage: What to run.
        loader: Its batches.
        run_folder: Where its state and logs go.
        fabric: Devices and processes; the first process writes.
        epochs: How many epochs the stage has.
        validate_every: Validates after every so many epochs, and after the last one.
        log_every: Steps between lines of `metrics.jsonl`, which hold the mean loss of these steps.
        save_every_minutes: Minutes between saved states within an epoch; each epoch's end saves one, too.

    Raises:
        Stopped: A signal asked the run to stop; the state is saved.
        ValueError: A loss is not finite; the message names it and the step. `last.pt` keeps the state before.
    """
    steps = len(loader)
    with deferring() as request:
        keeper = StateKeeper(stage, run_folder, fabric=fabric, request=request, save_every_minutes=save_every_minutes)
        keeper.resume(epochs=epochs, steps_per_epoch=steps)
        progress = keeper.progress
        done = progress.epoch * steps + progress.steps_in_epoch
        with epoch_progress(run_folder.stage, epochs * steps, completed=done) as reporter:
            for epoch in range(progress.epoch, epochs):
                keeper.start_epoch()
                first = Position(epoch, epoch * steps, epochs, steps)
                if not progress.steps_in_epoch:
                    share_random_state(fabric)
                    stage.start_epoch(first)
                losses = _run_epoch(
                    stage, loader, run_folder, first=first, log_every=log_every, reporter=reporter, keeper=keeper
                )
                last = first._replace(step=first.step + steps - 1)
                figures = dict(stage.end_epoch(last))
                if (epoch + 1) % validate_every == 0 or epoch + 1 == epochs:
                    figures |= stage.validate(last)
                run_folder.metrics(last.step + 1, figures, prefix="epoch")
                _keep_best(stage, progress, last, figures, writes=run_folder.writes)
                run_folder.log(_epoch_line(last, {**losses, **figures}, time_left_s=reporter.time_left_s))
                keeper.end_epoch(last)
    return StageResult(progress.best_merit, progress.best_epoch, progress.best_figures, progress.duration_s)


def _run_epoch(
    stage: Stage[Batch],
    loader: EpochLoader[Batch],
    run_folder: RunFolder,
    *,
    first: Position,
    log_every: int,
    reporter: ProgressReporter,
    keeper: StateKeeper,
) -> dict[str, float]:
    """Runs the remaining steps of an epoch; returns the epoch's mean losses."""
    losses, start = keeper.losses, keeper.progress.steps_in_epoch
    loader.set_epoch(first.epoch, start)
    position = first._replace(step=first.step + start - 1)
    for batch in _until_stopped(loader, lambda: keeper.stop_between_steps(first)):
        position = position._replace(step=position.step + 1)
        losses.add(stage.step(batch, position))
        is_last = position.step + 1 == first.step + first.steps_per_epoch
        if len(losses) >= log_every or is_last:
            means = losses.record(position)
            run_folder.metrics(position.step + 1, means, prefix="train")
            name = losses.names[0]
            reporter.advance(0, note=f"epoch {position.epoch + 1}/{position.epochs}, {name} {means[name]:.4f}")
        reporter.advance()
        if not is_last:
            keeper.end_step(position)
    assert position.step + 1 == first.step + first.steps_per_epoch, "the loader gave another number of batches"
    return losses.means(first.steps_per_epoch)


def _until_stopped(loader: EpochLoader[Batch], on_failure: Callable[[], None]) -> Iterator[Batch]:
    """Yields the batches; if the loader's workers have died, calls `on_failure` before the error is raised."""
    batches = iter(loader)
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except RuntimeError:
            on_failure()
            raise
        yield batch


def _keep_best(
    stage: Stage[Batch], progress: Progress, position: Position, figures: Mapping[str, float], *, writes: bool
) -> None:
    """Records a new highest merit, and lets the stage write its result."""
    merit = stage.merit(position, figures)
    if merit is None or math.isnan(merit) or (progress.best_merit is not None and merit <= progress.best_merit):
        return
    progress.best_merit, progress.best_epoch = merit, position.epoch
    progress.best_figures = dict(figures)
    if writes:
        stage.save_best(position, figures)


def _epoch_line(position: Position, figures: Mapping[str, float], *, time_left_s: float | None) -> str:
    """The log line of an epoch with its figures, without those of single classes (`iou/car`)."""
    shown = ", ".join(f"{name} {value:.4g}" for name, value in figures.items() if "/" not in name)
    left = "" if time_left_s is None else f", {format_duration(time_left_s)} left"
    return f"epoch {position.epoch + 1}/{position.epochs}: {shown}{left}"
