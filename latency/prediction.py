"""What a table predicts of a measurement: for which of its runners, for which of its networks, and else why not."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fasterseg.base.console import CONSOLE
from latency.comparison import MeasuredNetwork
from latency.config import TargetConfig
from latency.runners import Runner
from latency.runners.naming import NamedRunner
from latency.subjects import Subject
from latency.table import LatencyTable


@dataclass(frozen=True)
class TablePrediction:
    """A table and the runners that it answers for.

    Attributes:
        table: The table; None where it answers for none of the runners.
        runners: What results call them.
    """

    table: LatencyTable | None = None
    runners: tuple[str, ...] = ()

    def added_to(self, row: MeasuredNetwork, subject: Subject) -> MeasuredNetwork:
        """The row with the prediction, or as it is after a word on why there is none."""
        if self.table is None or row.runner not in self.runners:
            return row
        problem = _lack(self.table, subject)
        if problem is not None or subject.specs is None:
            CONSOLE.print(f"no prediction for {subject.name}: {problem}")
            return row
        return replace(
            row,
            table_sum_ms=self.table.sum_ms(subject.specs),
            predicted_ms=self.table.predict_ms(subject.specs),
            at_table_pace_ms=row.measurement.at_pace(self.table.reference_ms),
        )


def choose_table(
    path: Path | None, chosen: Sequence[NamedRunner], target: TargetConfig, *, required: bool
) -> TablePrediction:
    """What a table answers for; runners that it does not answer for are named, with the reason.

    Args:
        path: The table, or None.
        chosen: The runners that are timed.
        target: Their target.
        required: Whether a table that answers for none of them is an error.

    Raises:
        FileNotFoundError: There is no such table.
        ValueError: The table is required, and damaged or of another target or machine.
    """
    if path is None:
        return TablePrediction()
    try:
        table = LatencyTable.load(path)
    except ValueError as error:
        if required:
            raise
        CONSOLE.print(f"no predictions: {error}")
        return TablePrediction()
    problems = {each.name: _misfit(table, each.runner, target) for each in chosen}
    fitting = tuple(name for name, problem in problems.items() if problem is None)
    misfits = {name: problem for name, problem in problems.items() if problem is not None}
    if required and not fitting:
        raise ValueError("; ".join(f"no prediction on {name}: {problem}" for name, problem in misfits.items()))
    for name, problem in misfits.items():
        CONSOLE.print(f"no prediction on {name}: {problem}")
    return TablePrediction(table, fitting) if fitting else TablePrediction()


def _misfit(table: LatencyTable, runner: Runner, target: TargetConfig) -> str | None:
    """Why a table does not answer for a runner, if it does not."""
    own = {"runner": runner.name, "device": runner.device, "mode": runner.mode}
    try:
        table.check_target(target.model_copy(update=own))
        table.check_machine(runner.conditions())
    except ValueError as error:
        return str(error)
    return None


def _lack(table: LatencyTable, subject: Subject) -> str | None:
    """Why a table does not predict a network, if it does not."""
    if subject.specs is None:
        return f"{subject.source} is no file of `fasterseg export`, so its operators are not known"
    lacking = table.missing(subject.specs)
    if not lacking:
        return None
    own = table.target.num_classes
    if subject.num_classes != own:
        return (
            f"it has {subject.num_classes} classes, {table.source} was measured for {own}; measure a table for it with "
            f"`python -m latency table --config FILE --num-classes {subject.num_classes} --out FOLDER --for "
            f"{subject.source}`"
        )
    return (
        f"{table.source} lacks {len(lacking)} of its operators; add them with `python -m latency table --config FILE "
        f"--only-missing --for {subject.source}`"
    )
