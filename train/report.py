"""The pipeline's report: size, accuracy, predicted and measured latency of teacher and student.

Figures are read from the run folders or measured here. The target's runner times all exported files in one interleaved
run, so that the times are comparable.
"""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from dataset_tools.experiment_data import ExperimentData
from dataset_tools.loader import build_eval_loader
from fasterseg.base.console import CONSOLE, print_table
from fasterseg.base.experiment import Experiment
from fasterseg.base.files import write_text
from fasterseg.base.images import write_png
from fasterseg.base.text import markdown_table
from fasterseg.engine.checkpoint import load_network
from fasterseg.engine.evaluation import first_example
from fasterseg.networks import DeployedNetwork, measure_size, network_specs, resize_bilinear
from fasterseg.networks.resizing import map_size
from fasterseg.runtime.load import load_predictor
from latency.config import LatencyConfig, TargetConfig
from latency.measure import measure_deployed
from latency.runners.base import Runner, Session
from latency.runners.pytorch import PyTorchRunner
from latency.runners.selection import build_runner
from latency.table import LatencyTable
from train.config import TrainConfig
from train.data import dataset_facts

EXAMPLE_COUNT = 6
MEASURED_BOUND = 1.1


@dataclass(frozen=True)
class ReportRow:
    """One network's figures.

    Attributes:
        role: `teacher` or `student`.
        parameters: Number of trainable parameters, auxiliary heads included.
        gmacs: Multiply-accumulates of the convolutions at the target's input size, in billions.
        miou: mIoU of the checkpoint on the validation split.
        exported_miou: mIoU of the exported file on the validation split.
        table_sum_ms: Sum of the latency table's entries, without correction.
        predicted_ms: Predicted latency, with the table's correction; the budget applies to this.
        measured_ms: Median latency of the exported file on the target's runner, at the machine's current speed.
        paced_ms: The same, converted to the machine's speed when the table was measured; compare this with
            `predicted_ms`.
        spread: Interquartile range of the rounds over the median.
        budget_ms: The student's budget; None for the teacher, which has none.
    """

    role: str
    parameters: int
    gmacs: float
    miou: float
    exported_miou: float
    table_sum_ms: float
    predicted_ms: float
    measured_ms: float
    paced_ms: float
    spread: float
    budget_ms: float | None = None

    @property
    def verdict(self) -> str:
        """Whether the budget is met: in prediction, and measured within `MEASURED_BOUND` times it."""
        if self.budget_ms is None:
            return "no budget"
        predicted = "met" if self.predicted_ms <= self.budget_ms else "MISSED"
        measured = "met" if self.measured_ms <= MEASURED_BOUND * self.budget_ms else "MISSED"
        return f"predicted {predicted}, measured {measured} (within {MEASURED_BOUND:g}×)"


@dataclass(frozen=True)
class TrainedNetwork:
    """Where one network's files are.

    Attributes:
        role: `teacher` or `student`.
        checkpoint: Its `best.pt`.
        exported: Its ONNX file.
        exported_miou: What `evaluate` measured by running that file.
        budget_ms: The budget it has to meet, if any.
    """

    role: str
    checkpoint: Path
    exported: Path
    exported_miou: float
    budget_ms: float | None = None


def build_report(
    experiment: Experiment, networks: Sequence[TrainedNetwork], *, table: LatencyTable
) -> tuple[ReportRow, ...]:
    """Measures the exported files in one interleaved run and gathers all figures.

    Args:
        experiment: Read with the sections `target` and `latency`.
        networks: The networks of the report.
        table: The target's latency table.

    Raises:
        ValueError: A file does not fit, or the table lacks an operator.
    """
    target = experiment.section("target", TargetConfig)
    runner, reason = build_runner(target)
    CONSOLE.print(f"measuring with {reason}")
    measurements, _ = measure_deployed(
        [partial(_session, runner, network, target) for network in networks],
        [runner] * len(networks),
        protocol=experiment.section("latency", LatencyConfig),
        reference_runner=runner,
    )
    rows = []
    for network, measurement in zip(networks, measurements, strict=True):
        checkpoint = load_network(network.checkpoint)
        specs = network_specs(checkpoint.architecture, checkpoint.dataset.num_classes, input_size=target.input_size)
        size = measure_size(checkpoint.build(), target.input_size)
        rows.append(
            ReportRow(
                role=network.role,
                parameters=size.parameters,
                gmacs=size.gmacs,
                miou=checkpoint.scores["miou"],
                exported_miou=network.exported_miou,
                table_sum_ms=table.sum_ms(specs),
                predicted_ms=table.predict_ms(specs),
                measured_ms=measurement.median_ms,
                paced_ms=measurement.at_speed(table.reference_ms),
                spread=measurement.spread,
                budget_ms=network.budget_ms,
            )
        )
    return tuple(rows)


def _session(runner: Runner, network: TrainedNetwork, target: TargetConfig) -> Session:
    """The exported file on the runner; PyTorch, which runs no ONNX files, runs the network it was exported from."""
    if runner.name != PyTorchRunner.name:
        return runner.from_onnx_path(network.exported)
    deployed = DeployedNetwork(load_network(network.checkpoint).build()).eval()
    return runner.prepare(deployed, (1, 3, *target.input_size))


def write_report(rows: Sequence[ReportRow], out: Path, *, conditions: Mapping[str, object]) -> None:
    """Writes `report.json` and `report.md` into a folder and prints the table."""
    data = {"conditions": conditions, "networks": [{**asdict(row), "verdict": row.verdict} for row in rows]}
    write_text(out / "report.json", json.dumps(data, indent=2) + "\n")
    header, lines = _cells(rows)
    text = [*markdown_table(header, lines), "", *(f"- {name}: {value}" for name, value in conditions.items())]
    write_text(out / "report.md", "\n".join(text) + "\n")
    print_table(header, lines)


def _cells(rows: Sequence[ReportRow]) -> tuple[list[str], list[list[str]]]:
    """The report as text, a line per figure and a column per network: narrow enough for a terminal."""
    figures = (
        ("parameters", lambda row: f"{row.parameters:,}"),
        ("GMACs", lambda row: f"{row.gmacs:.3f}"),
        ("mIoU (validation)", lambda row: f"{row.miou:.4f}"),
        ("mIoU of the exported file", lambda row: f"{row.exported_miou:.4f}"),
        ("sum of the table, ms", lambda row: f"{row.table_sum_ms:.3f}"),
        ("predicted, ms", lambda row: f"{row.predicted_ms:.3f}"),
        ("measured, ms", lambda row: f"{row.measured_ms:.3f} (spread {row.spread:.1%})"),
        ("measured at the table's pace, ms", lambda row: f"{row.paced_ms:.3f}"),
        ("budget, ms", lambda row: "-" if row.budget_ms is None else f"{row.budget_ms:.3f}"),
        ("budget", lambda row: row.verdict),
    )
    return ["", *(row.role for row in rows)], [[name, *(show(row) for row in rows)] for name, show in figures]


def draw_predictions(experiment: Experiment, model: Path, picture: Path, *, stage: str) -> None:
    """Draws validation images, their labels and the model's predictions side by side into a PNG.

    Args:
        experiment: Read with the section `dataset` and the stage's own.
        model: A checkpoint or an exported file.
        picture: The PNG to write.
        stage: The stage whose image scale is used.
    """
    data = ExperimentData.load(experiment)
    predictor, facts = load_predictor(model), dataset_facts(data.description)
    image_scale = experiment.section(stage, TrainConfig).image_scale
    loader = build_eval_loader(data.description, split=data.config.validation_split, image_scale=image_scale)
    rows = []
    for batch in itertools.islice(loader, EXAMPLE_COUNT):
        logits = resize_bilinear(predictor.logits(batch.image), map_size(batch.image))
        rows.append(first_example(batch, logits.argmax(dim=1), facts))
    width = min(row.shape[1] for row in rows)
    write_png(picture, np.concatenate([row[:, :width] for row in rows]))
