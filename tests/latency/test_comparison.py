import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from latency.comparison import MeasuredNetwork, print_comparison, print_layers, save_comparison, save_layers
from latency.runners.base import Conditions, LayerTime
from latency.timing import LatencyMeasurement

LAYERS = (LayerTime("stem", "Conv", 3.0), LayerTime("up", "Resize", 1.0), LayerTime("head", "Conv", 4.0))


@pytest.fixture
def row(conditions: Conditions) -> MeasuredNetwork:
    measurement = LatencyMeasurement(
        median_ms=4.0,
        p95_ms=5.0,
        spread=0.02,
        count=9,
        disturbed_count=0,
        rounds=3,
        warmup_count=2,
        attempts=1,
        stable=True,
        input_shape=(1, 3, 64, 96),
        conditions=conditions,
        reference_ms=1.0,
        relative=4.0,
    )
    return MeasuredNetwork("student", "runs/student.json", "onnxruntime", measurement, 3.5, 3.9, 4.0)


def test_one_network_is_written_without_a_plot(row: MeasuredNetwork, tmp_path: Path) -> None:
    paths = save_comparison([row], tmp_path, stem="student")
    assert [path.name for path in paths] == ["measured_student.json", "measured_student.csv"]
    (data,) = json.loads(paths[0].read_text())
    assert data["measurement"]["conditions"]["runner"] == "onnxruntime" and data["predicted_ms"] == 3.9


def test_a_comparison_is_written_as_table_and_plot(row: MeasuredNetwork, tmp_path: Path) -> None:
    shaky = replace(row.measurement, median_ms=8.0, stable=False)
    other = MeasuredNetwork("student", row.source, "openvino", shaky)
    paths = save_comparison([row, other], tmp_path, stem="comparison")
    assert [path.suffix for path in paths] == [".json", ".csv", ".png"] and all(path.is_file() for path in paths)
    first, second = csv.DictReader(io.StringIO(paths[1].read_text()))
    assert (first["median_ms"], first["images_per_s"], first["predicted_ms"], first["stable"]) == (
        "4",
        "250",
        "3.9",
        "yes",
    )
    assert (second["runner"], second["predicted_ms"], second["stable"]) == ("openvino", "", "NO")


def test_an_unsteady_time_is_marked(row: MeasuredNetwork, capsys: pytest.CaptureFixture[str]) -> None:
    shaky = replace(row, measurement=replace(row.measurement, stable=False))
    print_comparison([row, shaky])
    assert capsys.readouterr().out.count("UNSTABLE") == 1


def test_layers_are_written_in_running_order_and_shown_by_cost(
    row: MeasuredNetwork, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_layers(LAYERS, tmp_path / "layers.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "layers.csv").read_text())))
    assert [(line["layer"], line["share"]) for line in rows] == [("stem", "0.375"), ("up", "0.125"), ("head", "0.5")]
    print_layers(row, LAYERS)
    shown = capsys.readouterr().out
    assert shown.index("head") < shown.index("stem") < shown.index("up  ")
    assert "by kind: Conv 7.000 ms, Resize 1.000 ms; 8.000 ms in all" in shown
