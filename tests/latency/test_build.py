from collections.abc import Callable
from pathlib import Path

import pytest

from fasterseg.networks import OperatorSpec, SpaceConfig
from fasterseg.networks.specs import HeadSpec
from latency import build
from latency.build import build_table
from latency.config import LatencyConfig, TargetConfig
from latency.journal import journal_path
from latency.reachable import reachable_specs
from latency.table import LatencyTable

Build = Callable[..., LatencyTable]


@pytest.fixture
def small_space() -> SpaceConfig:
    return SpaceConfig(
        layers=8, base_channels=2, widths=(1.0,), student_width=1.0, operators=("skip", "conv", "conv_downup")
    )


@pytest.fixture
def make(tmp_path: Path, small_space: SpaceConfig, quick: LatencyConfig) -> Build:
    def run(protocol: LatencyConfig = quick, runner: str = "onnxruntime", **options: object) -> LatencyTable:
        target = TargetConfig.model_validate({"runner": runner, "device": "cpu", "input_size": (32, 64)})
        path = tmp_path / "latency_table.json"
        return build_table(path, target=target, space=small_space, protocol=protocol, num_classes=3, **options)  # type: ignore[arg-type]

    return run


class CutError(Exception):
    """Stands for whatever ends a run."""


def test_the_table_holds_what_the_space_can_reach(make: Build, small_space: SpaceConfig, tmp_path: Path) -> None:
    table = make()
    assert list(table.entries) == list(reachable_specs(small_space, 3, input_size=(32, 64)))
    assert all(entry.median_ms > 0 for entry in table.entries.values())
    loaded = LatencyTable.load(tmp_path / "latency_table.json")
    assert loaded.entries == table.entries
    assert not journal_path(tmp_path / "latency_table.json").exists()


def test_a_complete_table_is_left_alone(make: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make()
    monkeypatch.setattr(build, "measure_sessions", lambda *_, **__: pytest.fail("measured again"))
    assert make().entries == first.entries


def test_a_run_that_was_cut_goes_on(make: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measure, groups = build.measure_sessions, 0

    def cut_in_the_third_group(*arguments: object, **options: object) -> object:
        nonlocal groups
        groups += 1
        if groups == 3:
            raise CutError
        return measure(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(build, "measure_sessions", cut_in_the_third_group)
    with pytest.raises(CutError):
        make()
    assert not (tmp_path / "latency_table.json").exists()
    kept = journal_path(tmp_path / "latency_table.json").read_text().splitlines()
    assert len(kept) == 1 + 2 * 8
    measured: list[int] = []

    def count(sessions: list[object], *arguments: object, **options: object) -> object:
        measured.append(len(sessions))
        return measure(sessions, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(build, "measure_sessions", count)
    table = make()
    assert sum(measured) == len(table.entries) - 16


def test_what_is_lacking_is_measured_and_the_rest_kept(make: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make()
    extra: list[OperatorSpec] = [HeadSpec(in_channels=5, height=4, width=8, num_classes=3)]
    second = make(extra_specs=extra)
    assert {spec: second.entries[spec] for spec in first.entries} == dict(first.entries)
    assert set(second.entries) - set(first.entries) == set(extra)


def test_a_table_of_another_target_is_refused(make: Build) -> None:
    make()
    with pytest.raises(ValueError, match=r"runner onnxruntime \(asked for: pytorch\)"):
        make(runner="pytorch")


def test_the_correction_is_fitted_on_measured_networks(make: Build, quick: LatencyConfig) -> None:
    table = make(quick.model_copy(update={"correction_networks": 6}))
    correction = table.correction
    assert correction.networks == 6 and correction.slope > 0
    assert correction.mean_error is not None and correction.largest_error is not None
    assert 0 <= correction.mean_error <= correction.largest_error
