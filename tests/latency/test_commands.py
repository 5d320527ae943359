import random
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from fasterseg.networks import SpaceConfig
from fasterseg.networks.sampling import random_architecture
from latency.__main__ import app
from latency.runners.base import LayerTime
from latency.runners.openvino import OpenVinoSession
from latency.table import LatencyTable


@pytest.fixture
def config(tmp_path: Path, dataset: Path) -> Path:
    file = tmp_path / "small.yaml"
    file.write_text(
        f"""
dataset: {{root: {dataset}}}
target: {{runner: onnxruntime, device: cpu, input_size: [32, 64]}}
latency: {{rounds: 3, network_rounds: 3, round_ms: 0.2, warmup_ms: 0.1, repeats: 0, correction_networks: 0}}
space: {{layers: 8, base_channels: 2, widths: [1.0], student_width: 1.0, operators: [skip, conv]}}
"""
    )
    return file


def test_table_then_measure(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["table", "--config", str(config)], catch_exceptions=False)
    path = Path("runs/small/latency/latency_table.json")
    assert result.exit_code == 0 and f"wrote {path}" in result.output
    assert f"next: python -m search pretrain --config {config}" in result.output
    space = SpaceConfig(layers=8, base_channels=2, widths=(1.0,), student_width=1.0, operators=("skip", "conv"))
    assert LatencyTable.load(path).space == space
    random_architecture(space, "student", random.Random(0)).save(Path("student.json"))
    command = ["measure", "student.json", "--config", str(config), "--out", "elsewhere"]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert result.exit_code == 0 and "the table predicts" in result.output
    written = "elsewhere/measured_student_onnxruntime_32x64.json"
    assert f"wrote {written}" in result.output and Path(written).is_file()
    smaller = run_measure_of("student.json", config, "--set", "target.input_size=[64, 64]")
    assert smaller.exit_code == 0 and "no prediction on onnxruntime: " in smaller.output
    assert Path("runs/small/latency/measured_student_onnxruntime_64x64.json").is_file()
    named = run_measure_of("student.json", config, "--set", "target.input_size=[64, 64]", "--table", str(path))
    assert isinstance(named.exception, ValueError) and "(asked for: (64, 64))" in str(named.exception)


def run_measure_of(network: str, config: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["measure", network, "--config", str(config), *options])


def test_layers_that_a_runner_does_not_tell_cost_no_figures(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: object, count: int = 10) -> tuple[LayerTime, ...]:
        raise ValueError("this runtime tells nothing")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(OpenVinoSession, "layer_times", refuse)
    result = run_measure_of("icnet-half", config, "--layers", "--runner", "openvino", "--runner", "onnxruntime")
    assert result.exit_code == 0, result.output
    assert "no times of layers for icnet-half on openvino: this runtime tells nothing" in result.output
    written = {path.name for path in Path("runs/small/latency").iterdir()}
    assert {"measured_icnet-half_openvino+onnxruntime_32x64.csv", "layers_icnet-half_onnxruntime_32x64.csv"} <= written
    assert "layers_icnet-half_openvino_32x64.csv" not in written


def test_settings_reach_the_sections(config: Path, tmp_path: Path) -> None:
    command = ["table", "--config", str(config), "--set", "target.threads=0", "--out", str(tmp_path)]
    result = CliRunner().invoke(app, command)
    assert isinstance(result.exception, ValueError) and "target.threads: got 0" in str(result.exception)


def test_without_a_dataset_the_command_says_what_to_do(config: Path, tmp_path: Path) -> None:
    (tmp_path / "dataset" / "dataset.yaml").unlink()
    result = CliRunner().invoke(app, ["table", "--config", str(config), "--out", str(tmp_path)])
    assert isinstance(result.exception, FileNotFoundError) and "dataset_tools synthesize" in str(result.exception)


def test_a_table_without_a_dataset_then_validation(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dataset" / "dataset.yaml").unlink()
    run = CliRunner().invoke
    assert run(app, ["table", "--config", str(config), "--num-classes", "3"], catch_exceptions=False).exit_code == 0
    loose = run(app, ["validate", "--config", str(config), "--count", "3"], catch_exceptions=False)
    assert loose.exit_code == 0 and "3 networks that the fit has not seen: mean error" in loose.output
    for suffix in ("csv", "json", "png"):
        assert Path(f"runs/small/latency/latency_validate_onnxruntime_32x64.{suffix}").is_file()
    command = ["validate", "--config", str(config), "--count", "3", "--mape-bound", "0", "--out", "strict"]
    strict = run(app, command, catch_exceptions=False)
    assert strict.exit_code == 1 and "MISSED: mean error" in strict.output
    assert Path("strict/latency_validate_onnxruntime_32x64.csv").is_file(), "the figures of a miss are worth keeping"


def test_a_baseline_joins_an_existing_table(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = CliRunner().invoke
    table = ["table", "--config", str(config)]
    run(app, table, catch_exceptions=False)
    result = run(app, [*table, "--for", "icnet-half"])
    assert isinstance(result.exception, ValueError) and "--only-missing" in str(result.exception)
    assert run(app, [*table, "--for", "icnet-half", "--only-missing"], catch_exceptions=False).exit_code == 0
    measured = run(app, ["measure", "icnet-half", "--config", str(config), "--layers"], catch_exceptions=False)
    assert "the table predicts" in measured.output and "by kind: Conv" in measured.output
    assert Path("runs/small/latency/layers_icnet-half_onnxruntime_32x64.csv").is_file()
