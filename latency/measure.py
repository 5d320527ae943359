"""Measuring whole networks as they are deployed, beside what a table predicts of them.

Several networks on several runners are timed in one interleaved run, so that their times can be compared. A table
predicts for those of the runners and networks that it answers for; for the others it is said why not.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from fasterseg.base.console import CONSOLE, epoch_progress
from fasterseg.base.experiment import Experiment
from fasterseg.networks.families import AnyArchitecture, network_specs
from fasterseg.networks.resizing import Size
from latency.config import LatencyConfig, TargetConfig
from latency.correction import NetworkSample
from latency.deployment import NamedNetwork, deployed_network, load_networks
from latency.results import LayerProfile, MeasuredNetwork
from latency.runners.base import Runner, Session
from latency.runners.selection import NamedRunner, choose_runners
from latency.table import LatencyTable
from latency.timing import LatencyMeasurement, groups, measure_modules, measure_sessions, reference_session


def measure_networks(
    architectures: Sequence[AnyArchitecture],
    *,
    runner: Runner,
    protocol: LatencyConfig,
    num_classes: int,
    input_size: Size,
) -> list[LatencyMeasurement]:
    """Measures networks with fresh weights, with the machine's speed beside them."""
    measurements: list[LatencyMeasurement] = []
    with epoch_progress("whole networks", len(architectures)) as progress, reference_session(runner) as reference:
        for group in groups(architectures, protocol.interleave):
            modules = [
                (partial(deployed_network, architecture, num_classes), (1, 3, *input_size)) for architecture in group
            ]
            measurements += measure_modules(modules, runner, protocol=protocol.for_networks(), reference=reference)
            progress.advance(len(group))
    return measurements


def network_sample(
    table: LatencyTable, architecture: AnyArchitecture, measurement: LatencyMeasurement
) -> NetworkSample:
    """A measured network beside the sum of its entries."""
    specs = network_specs(architecture, table.target.num_classes, input_size=table.target.input_size)
    return NetworkSample(table.sum_ms(specs), len(specs), measurement.at_speed(table.reference_ms))


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


@dataclass(frozen=True)
class TablePrediction:
    """A table and the runners that it answers for.

    Attributes:
        table: The table; None where it answers for none of the runners.
        runners: What results call them.
    """

    table: LatencyTable | None = None
    runners: tuple[str, ...] = ()

    def added_to(self, row: MeasuredNetwork, network: NamedNetwork) -> MeasuredNetwork:
        """The row with the prediction, or as it is after a word on why there is none."""
        if self.table is None or row.runner not in self.runners:
            return row
        problem = _lack(self.table, network)
        if problem is not None or network.specs is None:
            CONSOLE.print(f"no prediction for {network.name}: {problem}")
            return row
        return replace(
            row,
            table_sum_ms=self.table.sum_ms(network.specs),
            predicted_ms=self.table.predict_ms(network.specs),
            at_table_pace_ms=row.measurement.at_speed(self.table.reference_ms),
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
    if num_classes is None and prediction.table is not None:
        num_classes = prediction.table.target.num_classes
    loaded = load_networks(experiment, networks, num_classes=num_classes)
    plan = [(network, runner) for network in loaded for runner in _runners_of(network, chosen)]
    # the runner that the table answers for times the reference network, so that times can be scaled to the table;
    # without a table any runner serves
    of_table = next((each.runner for each in chosen if each.name in prediction.runners), chosen[0].runner)
    measurements, layers = measure_deployed(
        [partial(network.prepare, runner.runner, target.input_size) for network, runner in plan],
        [runner.runner for _, runner in plan],
        protocol=experiment.section("latency", LatencyConfig),
        reference_runner=of_table,
        with_layers=with_layers,
    )
    rows = [
        prediction.added_to(MeasuredNetwork(network.name, network.source, runner.name, measurement), network)
        for (network, runner), measurement in zip(plan, measurements, strict=True)
    ]
    by_network = (
        tuple(row for row, (planned, _) in zip(rows, plan, strict=True) if planned is network) for network in loaded
    )
    return Measured(tuple(by_network), layers)


def measure_deployed(
    prepare: Sequence[Callable[[], Session]],
    runners: Sequence[Runner],
    *,
    protocol: LatencyConfig,
    reference_runner: Runner,
    with_layers: bool = False,
) -> tuple[list[LatencyMeasurement], tuple[LayerProfile, ...]]:
    """Times whole networks, all taking turns, with the rounds of whole networks; closes their sessions.

    Args:
        prepare: For each network what makes its session.
        runners: The runner of each session.
        protocol: How to measure.
        reference_runner: Times the reference network.
        with_layers: Whether each network is profiled, too.

    Returns:
        The measurements in the order of the networks, and their profiles; no profiles unless they are asked for.
    """
    with ExitStack() as stack:
        sessions = [stack.enter_context(prepare_session()) for prepare_session in prepare]
        measurements = measure_sessions(
            sessions,
            [runner.conditions() for runner in runners],
            protocol=protocol.for_networks(),
            reference=stack.enter_context(reference_session(reference_runner)),
        )
        return measurements, tuple(map(_profile, sessions)) if with_layers else ()


def _runners_of(network: NamedNetwork, chosen: Sequence[NamedRunner]) -> list[NamedRunner]:
    """The runners that a network is timed on: of an exported file those that can run it, if there is one."""
    able = [runner for runner in chosen if network.network is not None or runner.runner.runs_files]
    if not able:
        # the first of them says why, and what to do
        return list(chosen)
    for runner in chosen:
        if runner not in able:
            CONSOLE.print(f"{runner.name} is left out for {network.source}: it cannot run ONNX files")
    return able


def _profile(session: Session) -> LayerProfile:
    """The times of a session's layers; a runner that cannot tell them costs the run none of its other figures."""
    try:
        times = session.layer_times()
    except ValueError as error:
        return LayerProfile((), str(error))
    return LayerProfile(times, None if times else "the runtime named no layer")


def _misfit(table: LatencyTable, runner: Runner, target: TargetConfig) -> str | None:
    """Why a table does not answer for a runner, if it does not."""
    of_runner = {"runner": runner.name, "device": runner.device, "mode": runner.mode}
    try:
        table.check_target(target.model_copy(update=of_runner))
        table.check_machine(runner.conditions())
    except ValueError as error:
        return str(error)
    return None


def _lack(table: LatencyTable, network: NamedNetwork) -> str | None:
    """Why a table does not predict a network, if it does not."""
    if network.specs is None:
        return f"{network.source} is no file of `fasterseg export`, so its operators are not known"
    lacking = table.missing(network.specs)
    if not lacking:
        return None
    if network.num_classes != table.target.num_classes:
        return (
            f"it has {network.num_classes} classes, {table.source} was measured for {table.target.num_classes}; "
            f"measure a table for it with `python -m latency table --config FILE --num-classes {network.num_classes} "
            f"--out FOLDER --for {network.source}`"
        )
    return (
        f"{table.source} lacks {len(lacking)} of its operators; add them with `python -m latency table --config FILE "
        f"--only-missing --for {network.source}`"
    )
