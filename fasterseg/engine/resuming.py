"""A stage's progress, in memory and in `last.pt`, and resuming from it.

A state is saved after every epoch, every few minutes within one, and when a signal asks the run to stop. Two states are
kept: `last.pt`, and `last.previous.pt` in case `last.pt` is damaged. A resumed run gives the same result as an
uninterrupted one: the state holds the random generators and the losses of the epoch so far, and the loader starts at
the next batch.
"""

import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from lightning_fabric import Fabric

from fasterseg.base.errors import DamagedFileError
from fasterseg.base.files import keep_previous
from fasterseg.base.stopping import Stopped, StopRequest
from fasterseg.engine.checkpoint import load_state, save_state, verify_archive
from fasterseg.engine.devices import random_state, restore_random_state
from fasterseg.engine.distributed import control_group, largest_over_processes, mean_over_processes, run_in_first
from fasterseg.engine.run_folder import RunFolder

_SECONDS_PER_MINUTE = 60


class Position(NamedTuple):
    """The position of a step within its stage.

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


class Resumable(Protocol):
    """The methods of a stage that saving and resuming need; see `fasterseg.engine.loop.Stage`."""

    def state(self) -> dict[str, Any]:
        """Everything that changes while training."""

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores what `state` returned."""

    def start_epoch(self, position: Position) -> None:
        """Prepares an epoch."""


@dataclass
class Progress:
    """How far the loop is.

    Attributes:
        epoch: Finished epochs.
        steps_in_epoch: Finished steps of the current epoch.
        best_merit: The highest merit so far.
        best_epoch: The epoch that gave it.
        best_figures: The figures of that epoch.
        duration_s: Training and validation time so far, seconds.
    """

    epoch: int = 0
    steps_in_epoch: int = 0
    best_merit: float | None = None
    best_epoch: int | None = None
    best_figures: dict[str, float] = field(default_factory=dict)
    duration_s: float = 0.0


class EpochLosses:
    """The losses of the current epoch: those of each step since the last record, and the sums of recorded ones.

    Losses stay on their device until a record is due, because reading them every step would stall a GPU.

    Args:
        stage_name: For messages.
        fabric: The processes whose losses are averaged.
    """

    def __init__(self, stage_name: str, fabric: Fabric) -> None:
        self._stage_name, self._fabric = stage_name, fabric
        self.reset()

    def reset(self) -> None:
        """Starts an epoch."""
        self.names: tuple[str, ...] = ()
        self._sums: dict[str, float] = {}
        self._pending: list[torch.Tensor] = []
        self._averaged: torch.Tensor | None = None

    def __len__(self) -> int:
        """Steps since the last record."""
        return len(self._pending) + (0 if self._averaged is None else len(self._averaged))

    def add(self, losses: Mapping[str, torch.Tensor]) -> None:
        """Adds the losses of a step."""
        self.names = tuple(losses)
        self._pending.append(torch.stack([loss.detach() for loss in losses.values()]))

    def record(self, position: Position) -> dict[str, float]:
        """The mean of each loss over the steps since the last record.

        Raises:
            ValueError: One of them is not finite.
        """
        values = self._average(position)
        means: dict[str, float] = dict(zip(self.names, values.mean(dim=0).tolist(), strict=True))
        for name, value in means.items():
            self._sums[name] = self._sums.get(name, 0.0) + value * len(values)
        self._averaged = None
        return means

    def means(self, steps: int) -> dict[str, float]:
        """The mean of each loss over an epoch of that many steps, all of them recorded."""
        return {name: value / steps for name, value in self._sums.items()}

    def state(self, position: Position) -> dict[str, Any]:
        """The losses as plain values, for a state within an epoch; all processes must call this.

        Raises:
            ValueError: A loss since the last record is not finite.
        """
        rows = self._average(position) if len(self) else None
        return {"names": list(self.names), "sums": dict(self._sums), "rows": rows}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores what `state` returned."""
        self.reset()
        self.names, self._sums, self._averaged = tuple(state["names"]), dict(state["sums"]), state["rows"]

    def _average(self, position: Position) -> torch.Tensor:
        """The losses (steps, names) since the last record, as means over the processes, on the CPU, float64."""
        if self._pending:
            rows = mean_over_processes(torch.stack(self._pending).double(), self._fabric).cpu()
            self._averaged = rows if self._averaged is None else torch.cat([self._averaged, rows])
            self._pending = []
        values = self._averaged
        assert values is not None, "a step comes first"
        finite = torch.isfinite(values)
        if not bool(finite.all()):
            row = int((~finite).any(dim=1).nonzero()[0])
            bad = [name for name, ok in zip(self.names, finite[row].tolist(), strict=True) if not ok]
            shown = ", ".join(f"{name} = {values[row, self.names.index(name)].item()}" for name in bad)
            step, name = position.step - len(values) + 1 + row, self._stage_name
            raise ValueError(
                f"{name}: loss is not finite at step {step} (epoch {position.epoch + 1}): {shown}. last.pt keeps the "
                f"state before. Lower {name}.lr or set {name}.grad_clip (such as 5) and start in a new folder"
            )
        return values


class StateKeeper:
    """Saves a stage's state at intervals, and when a signal asked the run to stop.

    Args:
        stage: The stage.
        run_folder: Folder of its states.
        fabric: The processes; all of them save and stop after the same step.
        request: Whether a signal asked this process to stop.
        save_every_minutes: Minutes between saved states within an epoch.

    Attributes:
        progress: The loop's progress.
        losses: Losses of the current epoch.
    """

    def __init__(
        self,
        stage: Resumable,
        run_folder: RunFolder,
        *,
        fabric: Fabric,
        request: StopRequest,
        save_every_minutes: float,
    ) -> None:
        self._stage, self._run_folder, self._fabric, self._request = stage, run_folder, fabric, request
        self._interval_s = save_every_minutes * _SECONDS_PER_MINUTE
        self._group = control_group(fabric)
        self.progress = Progress()
        self.losses = EpochLosses(run_folder.stage, fabric)
        self._saved_s = self._counted_s = time.monotonic()

    def resume(self, *, epochs: int, steps_per_epoch: int) -> None:
        """Restores the state in the run folder, if there is one; every process reads it.

        Raises:
            DamagedFileError: Both states are damaged.
            ValueError: `last.pt` is not a training state.
        """
        folder = self._run_folder
        run_in_first(self._fabric, lambda: _restore_last(folder))
        if not folder.last.is_file():
            folder.rewind(0)
            return
        state = load_state(folder.last)
        if state.get("kind") != "training" or not {"loop", "stage", "random"} <= state.keys():
            raise ValueError(f"{folder.last} is not a training state; delete the folder or choose another --out")
        self.progress = progress = Progress(**state["loop"])
        self._stage.load_state(state["stage"])
        step = progress.epoch * steps_per_epoch + progress.steps_in_epoch
        after = f"epoch {progress.epoch}"
        if progress.steps_in_epoch:
            after = f"step {progress.steps_in_epoch} of {steps_per_epoch} of epoch {progress.epoch + 1}"
            self._stage.start_epoch(Position(progress.epoch, progress.epoch * steps_per_epoch, epochs, steps_per_epoch))
            self.losses.load_state(state["losses"])
        restore_random_state(state["random"])
        folder.rewind(step)
        before, now = state.get("processes", 1), self._fabric.world_size
        changed = "" if before == now else f", with {now} process(es) instead of {before}"
        folder.log(f"goes on after {after} of {folder.last}{changed}")

    def start_epoch(self) -> None:
        """Starts measuring the epoch's duration."""
        self._counted_s = time.monotonic()

    def end_step(self, position: Position) -> None:
        """Called after each step but an epoch's last: saves if a state is due, and stops if asked to.

        Raises:
            Stopped: A signal asked the run to stop; the state is saved.
        """
        self.progress.steps_in_epoch += 1
        due = self._fabric.is_global_zero and time.monotonic() - self._saved_s >= self._interval_s
        wanted = largest_over_processes(2 * (self._request.signal or 0) + due, self._group)
        if wanted:
            self._save(position)
        self._stop(wanted // 2, position)

    def end_epoch(self, position: Position) -> None:
        """Called after an epoch: saves, and stops if asked to.

        Raises:
            Stopped: A signal asked the run to stop.
        """
        self.progress.epoch, self.progress.steps_in_epoch = position.epoch + 1, 0
        self.losses.reset()
        self._save(position)
        self._stop(largest_over_processes(self._request.signal or 0, self._group), position)

    def stop_between_steps(self, first: Position) -> None:
        """Called when a signal has ended the data loader's workers, too, so that no batch comes; saves and stops.

        Args:
            first: The first step of the epoch.

        Raises:
            Stopped: A signal asked the run to stop.
        """
        if self._request.signal is not None and self._fabric.world_size == 1:
            position = first._replace(step=first.step + self.progress.steps_in_epoch - 1)
            if self.progress.steps_in_epoch:
                self._save(position)
            self._stop(self._request.signal, position)

    def _save(self, position: Position) -> None:
        """Writes `last.pt` in the first process; all processes must call this."""
        folder, now_s = self._run_folder, time.monotonic()
        self.progress.duration_s += now_s - self._counted_s
        self._counted_s = now_s
        state = {
            "kind": "training",
            "stage": self._stage.state(),
            "loop": dict(vars(self.progress)),
            "losses": self.losses.state(position),
            "random": random_state(),
            "processes": self._fabric.world_size,
        }
        if folder.writes:
            folder.sync()
            save_state(folder.last, state, previous=folder.previous)
        self._fabric.barrier()
        self._saved_s = time.monotonic()

    def _stop(self, number: int, position: Position) -> None:
        if not number:
            return
        folder, name = self._run_folder, signal.Signals(number).name
        done = self.progress.epoch * position.steps_per_epoch + self.progress.steps_in_epoch
        folder.log(f"stopped by {name} after step {done} of {position.total_steps}")
        kept = f"{folder.last} holds everything up to step {done}" if folder.last.is_file() else "nothing was done yet"
        raise Stopped(number, f"{folder.stage}: stopped by {name}; {kept}: run the same command again to go on")


def _restore_last(folder: RunFolder) -> None:
    """Replaces a damaged or missing `last.pt` by the previous state, and logs that."""
    damage = []
    for path in (folder.last, folder.previous):
        try:
            verify_archive(path)
        except FileNotFoundError:
            continue
        except DamagedFileError as error:
            damage.append(str(error))
            continue
        if path == folder.previous:
            found = f"{folder.last} is damaged" if damage else f"{folder.last} is gone"
            folder.log(f"{found}; goes back to the state before it, {path}")
            keep_previous(path, folder.last)
        return
    if damage:
        raise DamagedFileError(
            f"{'; '.join(damage)}. No whole state is left in {folder.path}: to start the stage anew, delete "
            f"{folder.last.name} and {folder.previous.name} there"
        )
