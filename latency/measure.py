"""Measuring whole networks as they are deployed, image in, logits at the image's size out, beside their prediction."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from fasterseg.engine.config import Experiment, dataset_num_classes
from fasterseg.engine.files import write_text
from fasterseg.networks.architecture import Architecture
from fasterseg.networks.derived import derived_specs
from fasterseg.networks.network import DeployedNetwork
from fasterseg.networks.specs import OperatorSpec
from fasterseg.runtime.card import METADATA_KEY, ModelCard
from fasterseg.runtime.load import ONNX_SUFFIX, load_checkpoint
from fasterseg.runtime.onnx_session import OnnxSession
from latency.config import LatencyConfig, TargetConfig
from latency.correction import deployed_network
from latency.pace import reference_session
from latency.runners import Runner, Session, build_runner
from latency.table import LatencyTable
from latency.timing import LatencyMeasurement, measure_sessions

ARCHITECTURE_SUFFIX = ".json"


class Subject(NamedTuple):
    """A network that is ready to be timed.

    Attributes:
        session: Runs it.
        specs: Its operators; None for a foreign ONNX file, of which they are not known.
    """

    session: Session
    specs: tuple[OperatorSpec, ...] | None


@dataclass(frozen=True)
class MeasuredNetwork:
    """A network's measured time beside what a table predicts.

    Attributes:
        file: The network's file.
        measurement: The measured time.
        table_sum_ms: Plain sum of the table's entries; None without a table or without known operators.
        predicted_ms: The table's prediction, likewise.
        at_table_pace_ms: The measured time at the pace the machine had when the table was measured, likewise.
    """

    file: Path
    measurement: LatencyMeasurement
    table_sum_ms: float | None = None
    predicted_ms: float | None = None
    at_table_pace_ms: float | None = None

    def to_json(self) -> str:
        """The figures and their conditions as the text of a JSON file."""
        data = {
            "file": str(self.file),
            "measurement": self.measurement.to_dict(),
            "table_sum_ms": self.table_sum_ms,
            "predicted_ms": self.predicted_ms,
            "at_table_pace_ms": self.at_table_pace_ms,
        }
        return json.dumps(data, indent=2) + "\n"

    def describe(self) -> str:
        """The figures in a few lines."""
        lines = [f"{self.file}: measured {self.measurement.describe()}"]
        if self.predicted_ms is not None and self.table_sum_ms is not None and self.at_table_pace_ms is not None:
            pace = self.measurement.median_ms / self.at_table_pace_ms
            lines += [
                f"the table predicts {self.predicted_ms:.3f} ms (plain sum {self.table_sum_ms:.3f} ms); "
                f"measured / predicted = {self.measurement.median_ms / self.predicted_ms:.3f}",
                f"the machine takes {pace:.3f} times as long as when the table was measured; at the table's pace "
                f"measured / predicted = {self.at_table_pace_ms / self.predicted_ms:.3f}",
            ]
        return "\n".join(lines)


def measure_architecture(
    architecture: Architecture, num_classes: int, *, target: TargetConfig, protocol: LatencyConfig
) -> LatencyMeasurement:
    """The measured time of a derived network on a target.

    Raises:
        ValueError: The target's runtime is absent.
    """
    runner = build_runner(target).runner
    session = runner.prepare(deployed_network(architecture, num_classes), (1, 3, *target.input_size))
    return measure_sessions([session], runner.conditions(), protocol=protocol)[0]


def run_measure(experiment: Experiment, file: Path, *, table_path: Path | None, out: Path) -> MeasuredNetwork:
    """Times the network in a file and writes the figures.

    Args:
        experiment: Read with the sections `target`, `space` and `latency`.
        file: An architecture (`.json`), an exported file (`.onnx`) or a checkpoint.
        table_path: The table to predict from, or None.
        out: The JSON file to write.

    Raises:
        FileNotFoundError: There is no such file, or no such table.
        ValueError: The runtime is absent, a file is damaged or for another input size, or the table for another target.
    """
    target = experiment.section("target", TargetConfig)
    selection = build_runner(target)
    subject = prepare_subject(experiment, file, runner=selection.runner)
    protocol = experiment.section("latency", LatencyConfig)
    reference = reference_session(selection.runner)
    table = None
    if table_path is not None and subject.specs is not None:
        table = LatencyTable.load(table_path)
        table.check_target(target.model_copy(update={"runner": selection.runner.name}))
    (measurement,) = measure_sessions(
        [subject.session], selection.runner.conditions(), protocol=protocol, reference=reference
    )
    measured = MeasuredNetwork(file, measurement)
    if table is not None and subject.specs is not None:
        measured = MeasuredNetwork(
            file,
            measurement,
            table_sum_ms=table.sum_ms(subject.specs),
            predicted_ms=table.predict_ms(subject.specs),
            at_table_pace_ms=measurement.at_pace(table.reference_ms),
        )
    write_text(out, measured.to_json())
    return measured


def prepare_subject(experiment: Experiment, file: Path, *, runner: Runner) -> Subject:
    """The network in a file, ready to be timed at the target's input size; see `run_measure`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, or an exported file for another input size.
    """
    size = experiment.section("target", TargetConfig).input_size
    if file.suffix.lower() == ONNX_SUFFIX:
        session = runner.from_onnx_path(file)
        if session.input_shape[2:] != size:
            raise ValueError(
                f"{file} takes images of {session.input_shape[2:]}, target.input_size is {size}; export it again for "
                "that size, or set target.input_size"
            )
        card_text = OnnxSession(file).metadata.get(METADATA_KEY)
        if card_text is None:
            return Subject(session, None)
        card = ModelCard.from_json(card_text, str(file))
        return Subject(session, derived_specs(card.architecture, card.dataset.num_classes, input_size=size))
    if file.suffix.lower() == ARCHITECTURE_SUFFIX:
        architecture = Architecture.load(file)
        network = deployed_network(architecture, dataset_num_classes(experiment))
    else:
        network = DeployedNetwork(load_checkpoint(file).build()).eval()
    return Subject(runner.prepare(network, (1, 3, *size)), network.network.operator_specs(size))
