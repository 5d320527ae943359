import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import cv2
import pytest

from latency.results import (
    MeasuredNetwork,
    comparison_title,
    joined_names,
    plot_comparison,
    plot_validation,
    print_comparison,
    print_layers,
    save_comparison,
    save_figure,
    save_layers,
)
from latency.runners.base import Conditions, LayerTime
from latency.timing import LatencyMeasurement
from tests.made_up_measurement import made_up_measurement

LAYERS = (LayerTime("stem", "Conv", 3.0), LayerTime("up", "Resize", 1.0), LayerTime("head", "Conv", 4.0))


@pytest.fixture
def row(conditions: Conditions) -> MeasuredNetwork:
    measurement = made_up_measurement(4.0, conditions, p95_ms=5.0, spread=0.02, reference_ms=1.0, relative=4.0)
    return MeasuredNetwork("student", "runs/student.json", "onnxruntime", measurement, 3.5, 3.9, 4.0)


def on(measurement: LatencyMeasurement, **values: object) -> LatencyMeasurement:
    """The measurement as if it were of other conditions."""
    return replace(measurement, conditions=replace(measurement.conditions, **values))  # type: ignore[arg-type]


def test_one_network_is_written_without_a_plot(row: MeasuredNetwork, tmp_path: Path) -> None:
    paths = save_comparison([row], tmp_path)
    stem = "measured_student_onnxruntime_64x96"
    assert [path.name for path in paths] == [f"{stem}.json", f"{stem}.csv"]
    (data,) = json.loads(paths[0].read_text())
    assert data["measurement"]["conditions"]["runner"] == "onnxruntime" and data["predicted_ms"] == 3.9


def test_a_comparison_is_written_as_table_and_plot(row: MeasuredNetwork, tmp_path: Path) -> None:
    shaky = replace(row.measurement, median_ms=8.0, stable=False)
    other = MeasuredNetwork("student", row.source, "openvino", on(shaky, runner="openvino", mode="default"))
    paths = save_comparison([row, other], tmp_path)
    assert {path.stem for path in paths} == {"measured_student_onnxruntime+openvino_64x96"}
    assert [path.suffix for path in paths] == [".json", ".csv", ".png"] and all(path.is_file() for path in paths)
    first, second = csv.DictReader(io.StringIO(paths[1].read_text()))
    assert (first["median_ms"], first["images_per_s"], first["predicted_ms"], first["stable"]) == (
        "4",
        "250",
        "3.9",
        "yes",
    )
    assert (second["runner"], second["predicted_ms"], second["stable"]) == ("openvino", "", "NO")


def test_a_row_says_where_its_time_was_measured(row: MeasuredNetwork) -> None:
    on_gpu = on(row.measurement, runner="pytorch", device="cuda", mode="cuda_graph", precision="fp16", threads=2)
    figures = replace(row, runner="pytorch", measurement=on_gpu).figures()
    assert [figures[name] for name in ("device", "mode", "precision", "threads")] == ["cuda", "cuda_graph", "fp16", 2]


def test_a_run_on_something_else_keeps_the_files_of_the_first(row: MeasuredNetwork, tmp_path: Path) -> None:
    setups: tuple[dict[str, object], ...] = (
        {},
        {"runner": "openvino", "mode": "default"},
        {"runner": "openvino", "mode": "default", "precision": "bf16"},
        {"runner": "pytorch", "mode": "channels_last"},
    )
    measurements = [on(row.measurement, **setup) for setup in setups]
    measurements.append(replace(row.measurement, input_shape=(1, 3, 32, 64)))
    files = [save_comparison([replace(row, measurement=measured)], tmp_path) for measured in measurements]
    files += [[save_layers(replace(row, measurement=measured), LAYERS, tmp_path)] for measured in measurements]
    names = [path.name for paths in files for path in paths]
    assert len(set(names)) == len(names) == 3 * len(measurements)
    assert save_comparison([row], tmp_path) == files[0], "the same again replaces its own"


def test_the_title_names_devices_where_they_differ(row: MeasuredNetwork) -> None:
    on_gpu = on(row.measurement, runner="pytorch", device="cuda", device_name="a GPU", precision="fp16")
    both = [row, replace(row, runner="pytorch", measurement=on_gpu)]
    assert comparison_title(both[:1]) == "input 64x96, cpu (a processor), fp32, 1 thread"
    assert comparison_title(both) == (
        "input 64x96; onnxruntime: cpu (a processor), fp32, 1 thread; pytorch: cuda (a GPU), fp16, 1 thread"
    )


def test_an_unsteady_time_is_marked(row: MeasuredNetwork, capsys: pytest.CaptureFixture[str]) -> None:
    shaky = replace(row, measurement=replace(row.measurement, stable=False))
    print_comparison([row, shaky])
    assert capsys.readouterr().out.count("UNSTABLE") == 1


def test_layers_are_written_in_running_order_and_shown_by_cost(
    row: MeasuredNetwork, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save_layers(row, LAYERS, tmp_path)
    assert path.name == "layers_student_onnxruntime_64x96.csv"
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    assert [(line["layer"], line["share"]) for line in rows] == [("stem", "0.375"), ("up", "0.125"), ("head", "0.5")]
    print_layers(row, LAYERS)
    shown = capsys.readouterr().out
    assert shown.index("head") < shown.index("stem") < shown.index("up  ")
    assert "by kind: Conv 7.000 ms, Resize 1.000 ms; 8.000 ms in all" in shown


def test_names_are_joined_as_long_as_a_file_can_be_called_so() -> None:
    assert joined_names(["student", "icnet", "student"]) == "student+icnet"
    many = [f"network_{number}" for number in range(30)]
    assert joined_names(many).startswith("30_") and len(joined_names(many)) < 20
    assert joined_names(many) != joined_names([*many[:-1], "another"])


def test_a_validation_shows_every_network_and_its_error() -> None:
    figure = plot_validation([10.0, 20.0, 30.0], [11.0, 20.0, 27.0], title="a target")
    above, below = figure.axes
    assert above.collections[0].get_offsets().tolist() == [[10.0, 11.0], [20.0, 20.0], [30.0, 27.0]]
    assert below.collections[0].get_offsets()[:, 1].tolist() == pytest.approx([10.0, 0.0, -10.0])


def rows_of(conditions: Conditions, times: dict[tuple[str, str], float], **changes: object) -> list[MeasuredNetwork]:
    """A row for each (network, runner) and its time in ms."""
    return [
        MeasuredNetwork(name, name, runner, made_up_measurement(time_ms, conditions, **changes))
        for (name, runner), time_ms in times.items()
    ]


def test_a_comparison_has_a_bar_for_each_network_on_each_runner(conditions: Conditions) -> None:
    times = {("a", "onnxruntime"): 1.0, ("a", "openvino"): 3.0, ("b", "onnxruntime"): 2.0, ("b", "openvino"): 4.0}
    (axes,) = plot_comparison(rows_of(conditions, times)).axes
    assert [patch.get_width() for patch in axes.patches] == [1.0, 2.0, 3.0, 4.0]
    heights = [patch.get_y() for patch in axes.patches]
    assert len(set(heights)) == 4, "no bar covers another"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    assert "unsteady" not in axes.get_xlabel()


def test_what_is_unsteady_or_left_out_shows(conditions: Conditions) -> None:
    rows = rows_of(conditions, {("a", "onnxruntime"): 1.0, ("b", "onnxruntime"): 2.0})
    rows += rows_of(conditions, {("a", "pytorch"): 3.0}, stable=False)
    (axes,) = plot_comparison(rows).axes
    assert [text.get_text() for text in axes.texts] == [" 1.000", " 2.000", " 3.000 *"]
    assert "*: unsteady" in axes.get_xlabel()
    alone = axes.patches[1]
    assert alone.get_y() + alone.get_height() / 2 == pytest.approx(1.0), "in the middle of its network's group"


def test_figures_are_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "plot.png"
    save_figure(plot_validation([1.0, 2.0], [1.0, 2.0], title="t"), path)
    picture = cv2.imread(str(path))
    assert picture is not None and picture.std() > 5
    assert [file.name for file in path.parent.iterdir()] == ["plot.png"]
