import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from fasterseg.base.experiment import Experiment, load_experiment
from fasterseg.networks import SpaceConfig
from fasterseg.networks.sampling import random_architecture
from fasterseg.runtime.export import onnx_bytes
from latency.build import SECTIONS
from latency.config import LatencyConfig
from latency.deployment import deployed_network
from latency.measure import measure_deployed, run_measure
from latency.runners.base import Array, LayerTime, Session, TimedCall
from latency.runners.onnxruntime import OnnxRuntimeRunner
from latency.runners.openvino import OpenVinoSession
from latency.table import LatencyTable


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


class ClosableSession(Session):
    """A network of 1 ms that notes when it is closed."""

    input_shape = (1, 3, 8, 8)
    closed = False

    def run(self, image: Array) -> Array:
        return image

    def time_calls(self, count: int) -> list[TimedCall]:
        assert not self.closed
        return [TimedCall(1.0, undisturbed=True)] * count

    def close(self) -> None:
        self.closed = True


def test_deployed_networks_have_the_rounds_of_networks_and_are_closed(quick: LatencyConfig) -> None:
    runner, sessions = OnnxRuntimeRunner(threads=1), [ClosableSession(), ClosableSession()]
    protocol = quick.model_copy(update={"network_rounds": 4})
    measurements, layers = measure_deployed(
        [lambda: sessions[0], lambda: sessions[1]],
        [runner, runner],
        protocol=protocol,
        reference_runner=runner,
    )
    assert [measurement.rounds for measurement in measurements] == [4, 4] and layers == ()
    assert all(session.closed for session in sessions)


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
    (profile,) = run_measure(experiment, [str(tmp_path / "student.json")], with_layers=True).layers
    assert sum(layer.kind == "Conv" for layer in profile.times) > 10 and all(layer.ms >= 0 for layer in profile.times)
    assert profile.problem is None


def test_a_preset_whose_operators_the_table_lacks_is_measured_all_the_same(
    experiment: Experiment, table: LatencyTable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table.save(tmp_path / "table.json")
    (row,) = run_measure(experiment, ["icnet-half"], table_path=tmp_path / "table.json").rows
    assert row.name == "icnet-half" and row.measurement.median_ms > 0 and row.predicted_ms is None
    assert "--only-missing --for icnet-half" in capsys.readouterr().out.replace("\n", " ")


def test_a_foreign_onnx_file_is_measured_without_a_prediction(
    experiment: Experiment, table: LatencyTable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table.save(tmp_path / "table.json")
    path = tmp_path / "network.onnx"
    path.write_bytes(onnx_bytes(nn.Conv2d(3, 4, 3).eval(), (1, 3, 64, 96)))
    (row,) = run_measure(experiment, [str(path)], table_path=tmp_path / "table.json").rows
    assert row.predicted_ms is None and row.measurement.input_shape == (1, 3, 64, 96)
    assert "is no file of `fasterseg export`" in capsys.readouterr().out


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
    for runners in ([], ["onnxruntime"], ["openvino", "onnxruntime"]):
        with pytest.raises(ValueError, match=r"no prediction on onnxruntime: .*another machine .*device_name another"):
            run_measure(experiment, command, runners=runners, table_path=tmp_path / "table.json")


@pytest.mark.parametrize("damage", [{"threads": 4}, {"input_size": (32, 64)}, None])
def test_a_table_that_was_only_found_predicts_nothing_and_says_why(
    experiment: Experiment,
    table: LatencyTable,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: dict[str, object] | None,
) -> None:
    random_architecture(table.space, "student", random.Random(0)).save(tmp_path / "student.json")
    path = tmp_path / "table.json"
    replace(table, target=replace(table.target, **(damage or {}))).save(path)  # type: ignore[arg-type]
    if damage is None:
        path.write_text("{")
    (row,) = run_measure(experiment, [str(tmp_path / "student.json")], table_path=path, needs_table=False).rows
    assert row.predicted_ms is None and row.measurement.median_ms > 0
    said = capsys.readouterr().out
    assert "not valid JSON" in said if damage is None else f"no prediction on onnxruntime: {path} was measured" in said


def test_a_runner_that_a_table_does_not_answer_for_is_named(
    experiment: Experiment, table: LatencyTable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random_architecture(table.space, "student", random.Random(0)).save(tmp_path / "student.json")
    table.save(tmp_path / "table.json")
    rows = run_measure(
        experiment,
        [str(tmp_path / "student.json")],
        runners=["openvino", "onnxruntime"],
        table_path=tmp_path / "table.json",
    ).rows
    assert [row.predicted_ms is None for row in rows] == [True, False]
    assert "no prediction on openvino: " in (said := capsys.readouterr().out)
    assert "runner onnxruntime (asked for: openvino)" in said


def test_a_network_of_other_classes_than_the_table_is_named(
    experiment: Experiment, table: LatencyTable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random_architecture(table.space, "student", random.Random(0)).save(tmp_path / "student.json")
    table.save(tmp_path / "table.json")
    (row,) = run_measure(
        experiment, [str(tmp_path / "student.json")], table_path=tmp_path / "table.json", num_classes=5
    ).rows
    assert row.predicted_ms is None
    said = capsys.readouterr().out
    assert f"it has 5 classes, {tmp_path / 'table.json'} was measured for 3" in said and "--num-classes 5" in said


def test_the_class_count_is_the_tables_where_none_is_named(
    experiment: Experiment, table: LatencyTable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    replace(table, target=replace(table.target, num_classes=5)).save(tmp_path / "table.json")
    run_measure(experiment, ["icnet-half"], table_path=tmp_path / "table.json")
    assert "lacks" in (said := capsys.readouterr().out) and "classes" not in said
    run_measure(experiment, ["icnet-half"], table_path=tmp_path / "table.json", num_classes=7)
    assert "it has 7 classes" in capsys.readouterr().out


def test_a_runner_without_times_of_layers_costs_nothing_else(
    experiment: Experiment, space: SpaceConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: object, count: int = 10) -> tuple[LayerTime, ...]:
        raise ValueError("this runtime tells nothing")

    monkeypatch.setattr(OpenVinoSession, "layer_times", refuse)
    random_architecture(space, "student", random.Random(0)).save(tmp_path / "student.json")
    measured = run_measure(
        experiment, [str(tmp_path / "student.json")], runners=["openvino", "onnxruntime"], with_layers=True
    )
    assert [row.measurement.median_ms > 0 for row in measured.rows] == [True, True]
    refused, told = measured.layers
    assert (refused.times, refused.problem) == ((), "this runtime tells nothing")
    assert told.times and told.problem is None


def test_it_is_said_which_runner_was_taken_and_why(
    experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "network.onnx"
    path.write_bytes(onnx_bytes(nn.Conv2d(3, 4, 3).eval(), (1, 3, 64, 96)))
    run_measure(load_experiment(experiment.source, ["target.runner=auto"], SECTIONS), [str(path)])
    assert "measuring with onnxruntime on cpu (target.runner is auto; " in capsys.readouterr().out
    run_measure(experiment, [str(path)], runners=["openvino"])
    assert "measuring with openvino on cpu (asked for by --runner)" in capsys.readouterr().out


def test_the_deployed_network_gives_logits_at_the_images_size(space: SpaceConfig) -> None:
    network = deployed_network(random_architecture(space, "student", random.Random(0)), 3)
    with torch.inference_mode():
        assert network(torch.zeros(1, 3, 61, 90)).shape == (1, 3, 61, 90)
