import json
import random
from pathlib import Path

import pytest
import torch
from torch import nn

from fasterseg.engine.config import Experiment, load_experiment
from fasterseg.networks import SpaceConfig
from fasterseg.runtime.export import onnx_bytes
from latency.build import SECTIONS
from latency.config import LatencyConfig, TargetConfig
from latency.correction import deployed_network
from latency.measure import measure_architecture, run_measure
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
latency: {{rounds: 3, round_ms: 0.2, warmup_ms: 0.1, correction_networks: 0}}
space: {{layers: 8, base_channels: 4, widths: [0.5, 1.0], student_width: 0.5}}
"""
    )
    return load_experiment(file, [], SECTIONS)


def test_an_architecture_is_measured_beside_its_prediction(
    experiment: Experiment, space: SpaceConfig, table: LatencyTable, tmp_path: Path
) -> None:
    architecture = random_architecture(space, "student", random.Random(0))
    architecture.save(tmp_path / "student.json")
    table.save(tmp_path / "table.json")
    out = tmp_path / "measured.json"
    measured = run_measure(experiment, tmp_path / "student.json", table_path=tmp_path / "table.json", out=out)
    assert measured.measurement.median_ms > 0
    assert measured.predicted_ms == pytest.approx(table.predict_architecture(architecture))
    written = json.loads(out.read_text())
    assert written["measurement"]["conditions"]["runner"] == "onnxruntime"
    assert written["predicted_ms"] == measured.predicted_ms
    assert written["at_table_pace_ms"] > 0
    assert "measured / predicted" in measured.describe() and "when the table was measured" in measured.describe()


def test_a_foreign_onnx_file_is_measured_without_a_prediction(
    experiment: Experiment, table: LatencyTable, tmp_path: Path
) -> None:
    table.save(tmp_path / "table.json")
    path = tmp_path / "network.onnx"
    path.write_bytes(onnx_bytes(nn.Conv2d(3, 4, 3).eval(), (1, 3, 64, 96)))
    measured = run_measure(experiment, path, table_path=tmp_path / "table.json", out=tmp_path / "measured.json")
    assert measured.predicted_ms is None and measured.measurement.input_shape == (1, 3, 64, 96)


def test_an_onnx_file_of_another_size_is_refused(experiment: Experiment, tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    path.write_bytes(onnx_bytes(nn.Conv2d(3, 4, 3).eval(), (1, 3, 32, 32)))
    with pytest.raises(ValueError, match=r"takes images of \(32, 32\), target.input_size is \(64, 96\)"):
        run_measure(experiment, path, table_path=None, out=tmp_path / "measured.json")


def test_a_table_of_another_target_is_refused(experiment: Experiment, table: LatencyTable, tmp_path: Path) -> None:
    random_architecture(table.space, "student", random.Random(0)).save(tmp_path / "student.json")
    table.save(tmp_path / "table.json")
    text = (tmp_path / "table.json").read_text().replace('"threads": 1', '"threads": 4', 1)
    (tmp_path / "table.json").write_text(text)
    with pytest.raises(ValueError, match=r"threads 4 \(asked for: 1\)"):
        run_measure(
            experiment, tmp_path / "student.json", table_path=tmp_path / "table.json", out=tmp_path / "out.json"
        )


def test_the_deployed_network_gives_logits_at_the_images_size(space: SpaceConfig) -> None:
    network = deployed_network(random_architecture(space, "student", random.Random(0)), 3)
    with torch.inference_mode():
        assert network(torch.zeros(1, 3, 61, 90)).shape == (1, 3, 61, 90)


def test_measure_architecture(space: SpaceConfig, target: TargetConfig, quick: LatencyConfig) -> None:
    architecture = random_architecture(space, "student", random.Random(0))
    assert measure_architecture(architecture, 3, target=target, protocol=quick).median_ms > 0
