from pathlib import Path
from typing import Any

import pytest

from fasterseg.base.experiment import Experiment, load_experiment
from fasterseg.networks import SpaceConfig
from fasterseg.networks.reachable import reachable_specs
from latency import timing
from latency.build import SECTIONS
from latency.config import LatencyConfig, TargetConfig
from latency.runners.base import Conditions
from latency.table import LatencyTable, TableEntry, TableTarget

NUM_CLASSES = 3
INPUT_SIZE = (64, 96)
SMALL_REFERENCE = {"cpu": (8, 16), "cuda": (256, 512)}


@pytest.fixture(autouse=True)
def small_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reference network of microseconds, since it is timed more often than anything else."""
    monkeypatch.setattr(timing, "_REFERENCE_SIZES", SMALL_REFERENCE)


@pytest.fixture
def space() -> SpaceConfig:
    return SpaceConfig(layers=8, base_channels=4, widths=(0.5, 1.0), student_width=0.5)


@pytest.fixture
def target() -> TargetConfig:
    return TargetConfig(runner="onnxruntime", device="cpu", threads=1, input_size=INPUT_SIZE)


@pytest.fixture
def quick() -> LatencyConfig:
    return LatencyConfig(rounds=3, network_rounds=3, round_ms=0.2, warmup_ms=0.1, repeats=0, correction_networks=0)


@pytest.fixture
def conditions() -> Conditions:
    return Conditions("onnxruntime", "cpu", "a processor", 1, "fp32", {"torch": "2", "onnxruntime": "1"}, "cpu")


@pytest.fixture
def table(space: SpaceConfig, target: TargetConfig, quick: LatencyConfig, conditions: Conditions) -> LatencyTable:
    """A table with made-up times that grow with channels and map size."""
    specs = reachable_specs(space, NUM_CLASSES, input_size=INPUT_SIZE)
    fixed: dict[str, Any] = {"spread": 0.01, "count": 9, "disturbed_count": 0, "stable": True, "reference_ms": 0.5}
    entries = {}
    for spec in specs:
        outputs = getattr(spec, "out_channels", 8)
        cost = 1e-6 * spec.in_channels * outputs * spec.height * spec.width / getattr(spec, "stride", 1) ** 2
        cost *= {"conv": 9, "conv_2x": 18, "conv_downup": 3, "conv_2x_downup": 5}.get(getattr(spec, "operator", ""), 1)
        entries[spec] = TableEntry(median_ms=cost + 1e-3, p95_ms=cost + 2e-3, **fixed)
    return LatencyTable(
        target=TableTarget(
            runner="onnxruntime",
            device="cpu",
            precision="fp32",
            threads=1,
            input_size=target.input_size,
            num_classes=NUM_CLASSES,
            mode="cpu",
        ),
        space=space,
        conditions=conditions,
        protocol=quick,
        created="2026-01-01T00:00:00+00:00",
        reference_ms=0.5,
        entries=entries,
    )


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A dataset of three classes and no images."""
    folder = tmp_path / "dataset"
    folder.mkdir()
    (folder / "dataset.yaml").write_text("classes: [road, car, sky]\n")
    return folder


@pytest.fixture
def experiment(tmp_path: Path, dataset: Path) -> Experiment:
    file = tmp_path / "experiment.yaml"
    file.write_text(
        f"""
name: test
dataset: {{root: {dataset}}}
target: {{runner: onnxruntime, device: cpu, input_size: [64, 96]}}
latency: {{rounds: 3, network_rounds: 3, round_ms: 0.2, warmup_ms: 0.1, repeats: 0, correction_networks: 0}}
space: {{layers: 8, base_channels: 4, widths: [0.5, 1.0], student_width: 0.5}}
"""
    )
    return load_experiment(file, [], SECTIONS)
