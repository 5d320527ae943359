"""Measuring whole networks as they are deployed, image in, logits at the image's size out, beside their prediction.

Several networks on several runners are timed in one interleaved run, so that their times can be compared.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from fasterseg.base.console import CONSOLE
from fasterseg.base.experiment import Experiment
from latency.comparison import LayerProfile, MeasuredNetwork
from latency.config import LatencyConfig, TargetConfig
from latency.pace import reference_session
from latency.prediction import choose_table
from latency.runners import Session
from latency.runners.naming import NamedRunner, choose_runners
from latency.subjects import Subject, load_subjects
from latency.timing import measure_sessions


@dataclass(frozen=True)
class Measured:
    """What `run_measure` found.

    Attributes:
        networks: For each network in the order they were named, a row for each runner that can run it.
        layers: The profile of each row; empty when they were not asked for.
    """

    networks: tuple[tuple[MeasuredNetwork, ...], ...]
    layers: tuple[LayerProfile, ...] = ()

    @property
    def rows(self) -> tuple[MeasuredNetwork, ...]:
        """The rows of all networks."""
        return tuple(row for rows in self.networks for row in rows)


def run_measure(
    experiment: Experiment,
    networks: Sequence[str],
    *,
    runners: Sequence[str] = (),
    table_path: Path | None = None,
    needs_table: bool = True,
    num_classes: int | None = None,
    with_layers: bool = False,
) -> Measured:
    """Times networks on one runner or several, all in one interleaved run.

    Args:
        experiment: Read with the sections `target`, `space` and `latency`.
        networks: Checkpoints, architecture files, exported files or presets.
        runners: Names of runners, each with `:MODE` behind it if it is not the usual mode; none for the target's own.
        table_path: The table to predict from, or None.
        needs_table: Whether a table that answers for none of the runners is an error; otherwise the reason is said,
            and nothing is predicted.
        num_classes: Channels of the logits of networks from architectures; None takes the table's or the dataset's.
        with_layers: Whether each network is profiled, too.

    Raises:
        FileNotFoundError: There is no such file, or no such table.
        ValueError: A runtime is absent, a file is damaged or for another input size, or the table that is needed for
            another target or machine.
    """
    target = experiment.section("target", TargetConfig)
    chosen = choose_runners(target, runners)
    for each in chosen:
        CONSOLE.print(f"measuring with {each.reason}")
    prediction = choose_table(table_path, chosen, target, required=needs_table)
    subjects = load_subjects(experiment, networks, num_classes=num_classes, table=prediction.table)
    with ExitStack() as stack:
        plan = [(subject, _runners_of(subject, chosen)) for subject in subjects]
        pairs = [(subject, runner) for subject, able in plan for runner in able]
        sessions = [stack.enter_context(subject.prepare(runner.runner, target.input_size)) for subject, runner in pairs]
        # the pace is that of the runner whose table there is; without one, any will do
        paced = next((each.runner for each in chosen if each.name in prediction.runners), chosen[0].runner)
        reference = stack.enter_context(reference_session(paced))
        measurements = measure_sessions(
            sessions,
            [runner.runner.conditions() for _, runner in pairs],
            protocol=experiment.section("latency", LatencyConfig).for_networks(),
            reference=reference,
        )
        layers = tuple(map(_profile, sessions)) if with_layers else ()
    in_turn = iter(measurements)
    rows = tuple(
        tuple(
            prediction.added_to(MeasuredNetwork(subject.name, subject.source, runner.name, next(in_turn)), subject)
            for runner in able
        )
        for subject, able in plan
    )
    return Measured(rows, layers)


def _runners_of(subject: Subject, chosen: Sequence[NamedRunner]) -> list[NamedRunner]:
    """The runners that a network is timed on: of an exported file those that can run it, if there is one."""
    able = [runner for runner in chosen if subject.network is not None or runner.runner.runs_files]
    if not able:
        # the first of them says why, and what to do
        return list(chosen)
    for runner in chosen:
        if runner not in able:
            CONSOLE.print(f"{runner.name} is left out for {subject.source}: it cannot run ONNX files")
    return able


def _profile(session: Session) -> LayerProfile:
    """The times of a session's layers; a runner that cannot tell them costs the run none of its other figures."""
    try:
        times = session.layer_times()
    except ValueError as error:
        return LayerProfile((), str(error))
    return LayerProfile(times, None if times else "the runtime named no layer")
