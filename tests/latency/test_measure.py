import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from fasterseg.engine.config import Experiment, load_experiment
from fasterseg.networks import SpaceConfig
from fasterseg.runtime.export import onnx_bytes
from latency.build import SECTIONS
from latency.correction import deployed_network
from latency.measure import load_subjects, run_measure
from latency.runners.onnxruntime import OnnxRuntimeRunner
from latency.sampling import random_architecture
from latency.table import LatencyTable


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "dataset.yaml").write_text("classes: [road, car, sky]\n")
    file = tmp_path / "experiment.yaml"
    file.write_text(
        f"""
name: test
dataset: {{root: {tmp_path / "dataset"}}}
target: {{runner: onnxruntime, device: cpu, input_size: [64, 96]}}
latency: {{rounds: 3, network_rounds: 3, round_ms: 0.2, warmup_ms: 0.1, repeats: 0, correction_networks: 0}}
space: {{layers: 8, base_channels: 4, widths: [0.5, 1.0], student_width: 0.5}}
"""
    )
    return load_experiment(file, [], SECTIONS)


@pytest.fixture
def table(table: LatencyTable) -> LatencyTable:
    """The table with made-up times, as if it had been measured here."""
    return replace(table, conditions=OnnxRuntimeRunner(threads=1).conditions())


def test_an_architecture_is_measured_beside_its_prediction(
    experiment: Experiment, space: SpaceConfig, table: LatencyTable, tmp_path: Path
) -> None:
    architecture = random_architecture(space, "student", random.Random(0))
    architecture.save(tmp_path / "student.json")
    table.save(tmp_path / "table.json")
    (row,) = run_measure(experiment, [str(tmp_path / "student.json")], table_path=tmp_path / "table.json").rows
    assert row.measurement.median_ms > 0 and (row.name, row.runner) == ("student", "onnxruntime")
    assert row.predicted_ms == pytest.approx(table.predict_architecture(architecture))
    assert row.at_table_pace_ms is not None and row.at_table_pace_ms > 0
    assert "measured / predicted" in row.describe() and "when the table was measured" in row.describe()


def test_networks_and_runners_in_one_run(experiment: Experiment, table: LatencyTable, tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    path.write_bytes(onnx_bytes(nn.Conv2d(3, 4, 3).eval(), (1, 3, 64, 96)))
    random_architecture(table.space, "student", random.Random(0)).save(tmp_path / "student.json")
    table.save(tmp_path / "table.json")
    rows = run_measure(
        experiment,
        [str(path), str(tmp_path / "student.json")],
        runners=["openvino", "onnxruntime"],
        table_path=tmp_path / "table.json",
    ).rows
    assert [(row.name, row.runner) for row in rows] == [
        ("network", "openvino"),
        ("network", "onnxruntime"),
        ("student", "openvino"),
        ("student", "onnxruntime"),
    ]
    assert [row.measurement.conditions.runner for row in rows] == ["openvino", "onnxruntime"] * 2
    assert [row.predicted_ms is not None for row in rows] == [False, False, False, True], "a table is of one runner"


def test_a_runner_that_cannot_run_a_file_is_left_out_for_it(
    experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "network.onnx"
    path.write_bytes(onnx_bytes(nn.Conv2d(3, 4, 3).eval(), (1, 3, 64, 96)))
    rows = run_measure(experiment, [str(path), "icnet-half"], runners=["pytorch", "onnxruntime"], num_classes=3).rows
    assert [(row.name, row.runner) for row in rows] == [
        ("network", "onnxruntime"),
        ("icnet-half", "pytorch"),
        ("icnet-half", "onnxruntime"),
    ]
    assert f"pytorch is left out for {path}: it cannot run ONNX files" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"runner pytorch cannot run the ONNX file .*set target.runner to onnxruntime"):
        run_measure(experiment, [str(path)], runners=["pytorch"])


def test_a_mode_can_be_asked_for(experiment: Experiment, space: SpaceConfig, tmp_path: Path) -> None:
    random_architecture(space, "student", random.Random(0)).save(tmp_path / "student.json")
    rows = run_measure(experiment, [str(tmp_path / "student.json")], runners=["pytorch", "pytorch:channels_last"]).rows
    assert [row.runner for row in rows] == ["pytorch", "pytorch:channels_last"]
    assert [row.measurement.conditions.mode for row in rows] == ["eager", "channels_last"]
    with pytest.raises(ValueError, match="has no mode cuda_graph on cpu"):
        run_measure(experiment, [str(tmp_path / "student.json")], runners=["pytorch:cuda_graph"])


def test_layers_are_timed_when_asked_for(experiment: Experiment, space: SpaceConfig, tmp_path: Path) -> None:
    random_architecture(space, "student", random.Random(0)).save(tmp_path / "student.json")
    (layers,) = run_measure(experiment, [str(tmp_path / "student.json")], with_layers=True).layers
    assert sum(layer.kind == "Conv" for layer in layers) > 10 and all(layer.ms >= 0 for layer in layers)


def test_a_preset_whose_operators_the_table_lacks_is_measured_all_the_same(
    experiment: Experiment, table: LatencyTable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table.save(tmp_path / "table.json")
    (row,) = run_measure(experiment, ["icnet-half"], table_path=tmp_path / "table.json").rows
    assert row.name == "icnet-half" and row.measurement.median_ms > 0 and row.predicted_ms is None
    assert "--only-missing --for icnet-half" in capsys.readouterr().out.replace("\n", " ")


def test_the_class_count_comes_from_the_option_then_the_table_then_the_dataset(
    experiment: Experiment, table: LatencyTable
) -> None:
    def classes(num_classes: int | None, table: LatencyTable | None) -> int:
        (subject,) = load_subjects(experiment, ["icnet-half"], num_classes=num_classes, table=table)
        assert subject.network is not None
        return subject.network.network.num_classes

    of_five = replace(table, target=replace(table.target, num_classes=5))
    assert (classes(7, of_five), classes(None, of_five), classes(None, None)) == (7, 5, 3)


def test_networks_of_one_name_are_told_apart(experiment: Experiment, space: SpaceConfig, tmp_path: Path) -> None:
    files = [tmp_path / name / "student.json" for name in "ab"]
    for file in files:
        file.parent.mkdir()
        random_architecture(space, "student", random.Random(0)).save(file)
    subjects = load_subjects(experiment, [str(file) for file in files], num_classes=3, table=None)
    assert len({subject.name for subject in subjects}) == 2 and not any("/" in subject.name for subject in subjects)


def test_a_foreign_onnx_file_is_measured_without_a_prediction(
    experiment: Experiment, table: LatencyTable, tmp_path: Path
) -> None:
    table.save(tmp_path / "table.json")
    path = tmp_path / "network.onnx"
    path.write_bytes(onnx_bytes(nn.Conv2d(3, 4, 3).eval(), (1, 3, 64, 96)))
    (row,) = run_measure(experiment, [str(path)], table_path=tmp_path / "table.json").rows
    assert row.predicted_ms is None and row.measurement.input_shape == (1, 3, 64, 96)


def test_an_onnx_file_of_another_size_is_refused(experiment: Experiment, tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    path.write_bytes(onnx_bytes(nn.Conv2d(3, 4, 3).eval(), (1, 3, 32, 32)))
    with pytest.raises(ValueError, match=r"takes images of \(32, 32\), target.input_size is \(64, 96\)"):
        run_measure(experiment, [str(path)])


@pytest.mark.parametrize("name", ["absent.onnx", "absent.json", "no-such-preset"])
def test_what_is_not_there_is_named(experiment: Experiment, name: str) -> None:
    with pytest.raises(FileNotFoundError, match=name):
        run_measure(experiment, [name])


def test_a_table_of_another_target_is_refused(experiment: Experiment, table: LatencyTable, tmp_path: Path) -> None:
    random_architecture(table.space, "student", random.Random(0)).save(tmp_path / "student.json")
    replace(table, target=replace(table.target, threads=4)).save(tmp_path / "table.json")
    with pytest.raises(ValueError, match=r"threads 4 \(asked for: 1\)"):
        run_measure(experiment, [str(tmp_path / "student.json")], table_path=tmp_path / "table.json")


def test_a_table_of_another_machine_is_refused(experiment: Experiment, table: LatencyTable, tmp_path: Path) -> None:
    random_architecture(table.space, "student", random.Random(0)).save(tmp_path / "student.json")
    other = replace(table, conditions=replace(table.conditions, device_name="another"))
    other.save(tmp_path / "table.json")
    command = [str(tmp_path / "student.json")]
    with pytest.raises(ValueError, match=r"another machine .*device_name another \(now: "):
        run_measure(experiment, command, table_path=tmp_path / "table.json")
    rows = run_measure(experiment, command, runners=["onnxruntime"], table_path=tmp_path / "table.json").rows
    assert rows[0].predicted_ms is None, "in a comparison it predicts nothing"


def test_the_deployed_network_gives_logits_at_the_images_size(space: SpaceConfig) -> None:
    network = deployed_network(random_architecture(space, "student", random.Random(0)), 3)
    with torch.inference_mode():
        assert network(torch.zeros(1, 3, 61, 90)).shape == (1, 3, 61, 90)
