"""Measuring whole networks as they are deployed, image in, logits at the image's size out, beside their prediction.

A network is a checkpoint, an architecture file, the name of a preset, or an exported ONNX file. Several networks on
several runners are timed in one interleaved run, so that their times can be compared.
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from fasterseg.engine.config import Experiment, dataset_num_classes
from fasterseg.engine.progress import CONSOLE
from fasterseg.networks.families import network_specs
from fasterseg.networks.network import DeployedNetwork
from fasterseg.networks.presets import resolve_architecture
from fasterseg.networks.resizing import Size
from fasterseg.networks.specs import OperatorSpec
from fasterseg.runtime.card import METADATA_KEY, ModelCard
from fasterseg.runtime.load import ONNX_SUFFIX, load_checkpoint
from fasterseg.runtime.onnx_session import OnnxSession
from latency.comparison import MeasuredNetwork
from latency.config import LatencyConfig, TargetConfig
from latency.correction import deployed_network
from latency.pace import reference_session
from latency.runners import LayerTime, Runner, Session, build_runner
from latency.table import LatencyTable
from latency.timing import LatencyMeasurement, measure_sessions

CHECKPOINT_SUFFIX = ".pt"


@dataclass(frozen=True)
class Subject:
    """A network to be timed.

    Attributes:
        name: What it is called in results.
        source: Its file, or the name of a preset.
        specs: Its operators; None for a foreign ONNX file, of which they are not known.
        network: The module; None for an ONNX file.
        onnx_path: The ONNX file; None for a module.
    """

    name: str
    source: str
    specs: tuple[OperatorSpec, ...] | None
    network: DeployedNetwork | None = None
    onnx_path: Path | None = None

    def prepare(self, runner: Runner, input_size: Size) -> Session:
        """The network as a runner's session.

        Raises:
            ValueError: The runner cannot run it, or it is an exported file for another input size.
        """
        if self.network is not None:
            return runner.prepare(self.network, (1, 3, *input_size))
        assert self.onnx_path is not None
        session = runner.from_onnx_path(self.onnx_path)
        if session.input_shape[2:] != input_size:
            raise ValueError(
                f"{self.source} takes images of {session.input_shape[2:]}, target.input_size is {input_size}; export "
                "it again for that size, or set target.input_size"
            )
        return session


class NamedRunner(NamedTuple):
    """A runner and what results call it."""

    name: str
    runner: Runner


@dataclass(frozen=True)
class Measured:
    """What `run_measure` found.

    Attributes:
        rows: A row for each network on each runner.
        layers: The times of each row's layers; empty when they were not asked for.
    """

    rows: tuple[MeasuredNetwork, ...]
    layers: tuple[tuple[LayerTime, ...], ...] = ()


def run_measure(
    experiment: Experiment,
    networks: Sequence[str],
    *,
    runners: Sequence[str] = (),
    table_path: Path | None = None,
    num_classes: int | None = None,
    with_layers: bool = False,
) -> Measured:
    """Times networks on one runner or several, all in one interleaved run.

    Args:
        experiment: Read with the sections `target`, `space` and `latency`.
        networks: Checkpoints, architecture files, exported files or presets.
        runners: Names of runners, each with `:MODE` behind it if it is not the usual mode; none for the target's own.
        table_path: The table to predict from, or None.
        num_classes: Channels of the logits of networks from architectures; None takes the table's or the dataset's.
        with_layers: Whether each network is profiled, too.

    Raises:
        FileNotFoundError: There is no such file, or no such table.
        ValueError: A runtime is absent, a file is damaged or for another input size, or the table for another target or
            machine.
    """
    target = experiment.section("target", TargetConfig)
    chosen = [_named_runner(target, name) for name in runners or [target.runner]]
    table = None if table_path is None else LatencyTable.load(table_path)
    if table is not None and not runners:
        table.check_target(target.model_copy(update={"runner": chosen[0].runner.name}))
        table.check_machine(chosen[0].runner.conditions())
    subjects = load_subjects(experiment, networks, num_classes=num_classes, table=table)
    with ExitStack() as stack:
        pairs = [(subject, runner) for subject in subjects for runner in _runners_of(subject, chosen)]
        sessions = [stack.enter_context(subject.prepare(runner.runner, target.input_size)) for subject, runner in pairs]
        # the pace is that of the runner whose table there is; without one, any will do
        paced = next((runner for _, runner in chosen if table is not None and _answers(table, runner, target)), None)
        reference = stack.enter_context(reference_session(paced or chosen[0].runner))
        measurements = measure_sessions(
            sessions,
            [runner.runner.conditions() for _, runner in pairs],
            protocol=experiment.section("latency", LatencyConfig).for_networks(),
            reference=reference,
        )
        rows = [
            _row(subject, runner, measurement, table=table if runner.runner is paced else None)
            for (subject, runner), measurement in zip(pairs, measurements, strict=True)
        ]
        layers = tuple(session.layer_times() for session in sessions) if with_layers else ()
    return Measured(tuple(rows), layers)


def load_subjects(
    experiment: Experiment, networks: Sequence[str], *, num_classes: int | None, table: LatencyTable | None
) -> list[Subject]:
    """The networks that are named, each with a name of its own; see `run_measure`."""
    size = experiment.section("target", TargetConfig).input_size
    if num_classes is None and table is not None:
        num_classes = table.target.num_classes
    subjects = [_load_subject(experiment, text, size=size, num_classes=num_classes) for text in networks]
    names = Counter(subject.name for subject in subjects)
    return [
        subject if names[subject.name] == 1 else replace(subject, name=subject.source.replace("/", "_"))
        for subject in subjects
    ]


def _load_subject(experiment: Experiment, text: str, *, size: Size, num_classes: int | None) -> Subject:
    path = Path(text)
    suffix = path.suffix.lower()
    if suffix == ONNX_SUFFIX:
        if not path.is_file():
            raise FileNotFoundError(f"no ONNX file at {path}; `fasterseg export` writes one")
        return Subject(path.stem, text, _exported_specs(path, size), onnx_path=path)
    if suffix == CHECKPOINT_SUFFIX:
        network = DeployedNetwork(load_checkpoint(path).build()).eval()
        # every stage calls its network best.pt, so a checkpoint goes by its folder's name
        return Subject(path.resolve().parent.name, text, network.network.operator_specs(size), network=network)
    architecture = resolve_architecture(text)
    network = deployed_network(architecture, num_classes or dataset_num_classes(experiment))
    return Subject(path.stem, text, network.network.operator_specs(size), network=network)


def _exported_specs(path: Path, size: Size) -> tuple[OperatorSpec, ...] | None:
    card_text = OnnxSession(path).metadata.get(METADATA_KEY)
    if card_text is None:
        return None
    card = ModelCard.from_json(card_text, str(path))
    return network_specs(card.architecture, card.dataset.num_classes, input_size=size)


def _named_runner(target: TargetConfig, text: str) -> NamedRunner:
    """The runner `NAME` or `NAME:MODE` on the target; the target's own mode stays with its own runner."""
    name, _, mode = text.partition(":")
    own = name == target.runner and not mode
    settings = {"runner": name, "mode": target.mode if own else mode or "auto"}
    runner = build_runner(TargetConfig.model_validate({**target.model_dump(), **settings})).runner
    return NamedRunner(f"{runner.name}:{mode}" if mode else runner.name, runner)


def _runners_of(subject: Subject, chosen: Sequence[NamedRunner]) -> list[NamedRunner]:
    """The runners that a network is timed on: of an exported file those that can run it, if there is one."""
    able = [runner for runner in chosen if subject.network is not None or runner.runner.runs_files]
    if not able:
        # the first of them says why, and what to do
        return list(chosen)
    for runner in chosen:
        if runner not in able:
            CONSOLE.print(f"{runner.name} is left out for {subject.source}: it cannot run ONNX files", soft_wrap=True)
    return able


def _answers(table: LatencyTable, runner: Runner, target: TargetConfig) -> bool:
    """Whether a table was measured with a runner, on this machine, at the target's input size."""
    return table.conditions == runner.conditions() and table.target.input_size == target.input_size


def _row(
    subject: Subject, runner: NamedRunner, measurement: LatencyMeasurement, *, table: LatencyTable | None
) -> MeasuredNetwork:
    row = MeasuredNetwork(subject.name, subject.source, runner.name, measurement)
    if table is None or subject.specs is None:
        return row
    lacking = table.missing(subject.specs)
    if lacking:
        CONSOLE.print(
            f"no prediction for {subject.name}: {table.source} lacks {len(lacking)} of its operators; add them with "
            f"`python -m latency table --config FILE --only-missing --for {subject.source}`",
            soft_wrap=True,
        )
        return row
    return replace(
        row,
        table_sum_ms=table.sum_ms(subject.specs),
        predicted_ms=table.predict_ms(subject.specs),
        at_table_pace_ms=measurement.at_pace(table.reference_ms),
    )
