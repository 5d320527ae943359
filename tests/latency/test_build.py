import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fasterseg.networks import Architecture, OperatorSpec, SpaceConfig
from fasterseg.networks.families import network_specs
from fasterseg.networks.icnet import ICNetArchitecture
from fasterseg.networks.operator_specs import HeadSpec
from fasterseg.networks.reachable import reachable_specs
from latency import build
from latency.build import EntryJournal, build_table, journal_path, measure_correction
from latency.config import LatencyConfig, TargetConfig
from latency.correction import Correction
from latency.runners.base import Conditions
from latency.runners.onnxruntime import OnnxRuntimeRunner
from latency.table import LatencyTable, entry_from_data
from latency.timing import LatencyMeasurement
from tests.made_up_measurement import made_up_measurement

Build = Callable[..., LatencyTable]
HEADER = {"target": {"threads": 1, "input_size": [64, 96]}, "conditions": {"device_name": "a processor"}}


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


def test_the_table_keeps_the_clocks_under_load(make: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each group's clocks as its measurements have them; the table records their median."""
    measure, clocks = build.measure_modules, iter([300, *([1980] * 100)])

    def with_clocks(*arguments: Any, **options: Any) -> list[LatencyMeasurement]:
        found = {"clocks.sm": next(clocks)}
        return [
            replace(each, conditions=replace(each.conditions, clocks_mhz=found))
            for each in measure(*arguments, **options)
        ]

    monkeypatch.setattr(build, "measure_modules", with_clocks)
    table = make()
    assert table.conditions.clocks_mhz == {"clocks.sm": 1980}
    assert make().conditions.clocks_mhz == {"clocks.sm": 1980}, "a table that is complete keeps them"


def test_a_complete_table_is_left_alone(make: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make()
    monkeypatch.setattr(build, "measure_modules", lambda *_, **__: pytest.fail("measured again"))
    assert make().entries == first.entries


def test_a_run_that_was_cut_goes_on(make: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measure, groups = build.measure_modules, 0

    def cut_in_the_third_group(*arguments: object, **options: object) -> object:
        nonlocal groups
        groups += 1
        if groups == 3:
            raise CutError
        return measure(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(build, "measure_modules", cut_in_the_third_group)
    with pytest.raises(CutError):
        make()
    assert not (tmp_path / "latency_table.json").exists()
    kept = journal_path(tmp_path / "latency_table.json").read_text().splitlines()
    assert len(kept) == 1 + 2 * 8
    measured: list[int] = []

    def count(modules: list[object], *arguments: object, **options: object) -> object:
        measured.append(len(modules))
        return measure(modules, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(build, "measure_modules", count)
    table = make()
    assert sum(measured) == len(table.entries) - 16


def test_what_is_lacking_is_measured_and_the_rest_kept(make: Build) -> None:
    first = make()
    extra: list[OperatorSpec] = [HeadSpec(in_channels=5, height=4, width=8, num_classes=3)]
    with pytest.raises(ValueError, match=r"lacks 1 of the operators asked for, head/5/3/4x8 among them; .*--only-m"):
        make(extra_specs=extra)
    second = make(extra_specs=extra, only_missing=True)
    assert {spec: second.entries[spec] for spec in first.entries} == dict(first.entries)
    assert set(second.entries) - set(first.entries) == set(extra)
    assert make().entries == second.entries, "what the space does not need stays"


def test_a_baselines_operators_join_the_table(make: Build) -> None:
    make()
    specs = network_specs(ICNetArchitecture(width_factor=0.25), 3, input_size=(32, 64))
    table = make(extra_specs=specs, only_missing=True)
    assert not table.missing(specs)
    assert table.predict_architecture(ICNetArchitecture(width_factor=0.25)) == pytest.approx(table.sum_ms(specs))


@pytest.mark.parametrize("field", ["rounds", "round_ms", "spread_bound"])
def test_a_changed_protocol_is_not_ignored(make: Build, quick: LatencyConfig, field: str) -> None:
    make()
    changed = quick.model_copy(update={field: getattr(quick, field) + 1})
    for only_missing in (False, True):
        with pytest.raises(ValueError, match=rf"was measured another way: latency\.{field} "):
            make(changed, only_missing=only_missing)


def test_a_changed_machine_is_not_ignored(make: Build, tmp_path: Path) -> None:
    make()
    path = tmp_path / "latency_table.json"
    name = LatencyTable.load(path).conditions.device_name
    path.write_text(path.read_text().replace(json.dumps(name), json.dumps("another processor")))
    with pytest.raises(ValueError, match=r"measured on another machine .*device_name another processor \(now: "):
        make()


def test_a_changed_seed_fits_again_and_measures_no_operator(
    make: Build, quick: LatencyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(table: LatencyTable, *, protocol: LatencyConfig, **_: object) -> Correction:
        return Correction(slope=1.0 + protocol.seed, networks=protocol.correction_networks)

    monkeypatch.setattr(build, "measure_correction", fit)
    protocol = quick.model_copy(update={"correction_networks": 6})
    first = make(protocol)
    reseeded = protocol.model_copy(update={"seed": 1})
    with pytest.raises(
        ValueError, match=r"lacks a correction fitted on .*latency\.seed 1 \(its own is of .*latency\.seed 0\)"
    ):
        make(reseeded)
    monkeypatch.setattr(build, "measure_modules", lambda *_, **__: pytest.fail("measured again"))
    second = make(reseeded, only_missing=True)
    assert second.entries == first.entries and second.protocol.seed == 1
    assert (first.correction.slope, second.correction.slope) == (1.0, 2.0)


def test_a_killed_run_goes_on_to_the_same_set(
    make: Build, small_space: SpaceConfig, quick: LatencyConfig, tmp_path: Path
) -> None:
    """SIGKILL in the middle, as the kernel or a user sends it: nothing that was measured is lost or measured twice."""
    path = tmp_path / "latency_table.json"
    journal = journal_path(path)
    # the third group of operators waits to be killed, however fast the machine is
    script = f"""
import time
from pathlib import Path
from latency import build
from latency.config import LatencyConfig, TargetConfig
from fasterseg.networks import SpaceConfig

measure, groups = build.measure_modules, 0

def stop_in_the_third_group(*arguments, **options):
    global groups
    groups += 1
    if groups == 3:
        time.sleep(600)
    return measure(*arguments, **options)

build.measure_modules = stop_in_the_third_group
target = TargetConfig(runner="onnxruntime", device="cpu", input_size=(32, 64))
protocol = LatencyConfig.model_validate({quick.model_dump()!r})
space = SpaceConfig.model_validate({small_space.model_dump()!r})
build.build_table(Path({str(path)!r}), target=target, space=space, protocol=protocol, num_classes=3)
"""
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, cwd=Path(build.__file__).parents[1], stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 300
        try:
            while not (journal.is_file() and journal.read_text().count("\n") >= 1 + 2 * 8):
                assert process.poll() is None and time.monotonic() < deadline, "the run ended before it could be killed"
                time.sleep(0.02)
        finally:
            process.kill()
        assert process.wait() == -signal.SIGKILL
    assert not path.exists()
    kept = dict(entry_from_data(json.loads(line)) for line in journal.read_text().rstrip().splitlines()[1:])
    assert len(kept) == 2 * 8 < len(reachable_specs(small_space, 3, input_size=(32, 64)))
    make()
    table = LatencyTable.load(path)
    assert list(table.entries) == list(reachable_specs(small_space, 3, input_size=(32, 64)))
    for spec, entry in kept.items():
        assert table.entries[spec] == entry.at_speed(table.reference_ms)
    assert not journal.exists()


def test_a_journal_left_behind_does_not_outlive_its_table(make: Build, tmp_path: Path) -> None:
    table = make()
    left = journal_path(tmp_path / "latency_table.json")
    left.write_text("a run was killed between writing the table and removing this\n")
    assert make().entries == table.entries and not left.exists()


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


def test_unsteady_networks_are_counted(
    table: LatencyTable, quick: LatencyConfig, conditions: Conditions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They stay in the fit, which weighs what does not fit the others less; but that is said."""

    def measure(architectures: list[Architecture], **_: object) -> list[LatencyMeasurement]:
        found = []
        for number, architecture in enumerate(architectures):
            time_ms = table.predict_architecture(architecture)
            relation = {"reference_ms": table.reference_ms, "relative": time_ms / table.reference_ms}
            found.append(made_up_measurement(time_ms, conditions, stable=number >= 2, **relation))
        return found

    monkeypatch.setattr(build, "measure_networks", measure)
    protocol = quick.model_copy(update={"correction_networks": 6})
    fit = measure_correction(table, runner=OnnxRuntimeRunner(), protocol=protocol)
    assert fit.unsteady == 2 and "6 random networks, 2 of them with an unsteady time" in fit.describe()
    path = tmp_path / "table.json"
    replace(table, correction=fit).save(path)
    assert LatencyTable.load(path).correction.unsteady == 2
    path.write_text(path.read_text().replace(',\n    "unsteady": 2', ""))
    assert LatencyTable.load(path).correction == replace(fit, unsteady=None), "a table from before they were counted"


def test_entries_survive(table: LatencyTable, tmp_path: Path) -> None:
    path = journal_path(tmp_path / "deep" / "table.json")
    first, second = list(table.entries.items())[:2]
    EntryJournal(path, HEADER).append(dict([first]))
    again = EntryJournal(path, HEADER)
    assert again.entries == dict([first])
    again.append(dict([second]))
    assert EntryJournal(path, HEADER).entries == dict([first, second])


def test_a_line_cut_off_in_the_middle_is_dropped(table: LatencyTable, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    items = list(table.entries.items())
    EntryJournal(path, HEADER).append(dict(items[:3]))
    path.write_text(path.read_text()[:-20])
    journal = EntryJournal(path, HEADER)
    assert journal.entries == dict(items[:2])
    journal.append(dict(items[3:4]))
    assert len(EntryJournal(path, HEADER).entries) == 3


def test_entries_of_two_targets_are_never_mixed(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    EntryJournal(path, HEADER)
    other = {**HEADER, "target": {"threads": 2, "input_size": [64, 96]}}
    with pytest.raises(ValueError, match=r"target.threads 1 \(now: 2\); go on under those, or remove the file"):
        EntryJournal(path, other)


@pytest.mark.parametrize("line", ["{", json.dumps({"median_ms": 1}), "NaN"])
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "journal.jsonl"
    EntryJournal(path, HEADER)
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(ValueError, match="line 2 is damaged"):
        EntryJournal(path, HEADER)
    path.write_text("no journal\n")
    with pytest.raises(ValueError, match="is not a table's journal"):
        EntryJournal(path, HEADER)


def test_a_journal_only_grows(table: LatencyTable, tmp_path: Path) -> None:
    """A run that is killed while it starts must not lose what an earlier one measured."""
    path = tmp_path / "journal.jsonl"
    items = list(table.entries.items())
    EntryJournal(path, HEADER).append(dict(items[:3]))
    before, inode = path.read_bytes(), path.stat().st_ino
    EntryJournal(path, HEADER)
    assert path.read_bytes() == before and path.stat().st_ino == inode
    path.write_bytes(before + b'{"median_ms": 0.1, "p9')
    EntryJournal(path, HEADER)
    assert path.read_bytes() == before and path.stat().st_ino == inode


def test_a_run_killed_at_its_first_line_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text('{"target": {"thr')
    assert EntryJournal(path, HEADER).entries == {}
    assert json.loads(path.read_text()) == HEADER


@pytest.mark.parametrize("data", [b"\xff\xfe\n", b"[]\n", b'{"target": 3}\n'])
def test_what_is_no_journal_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="is not a table's journal"):
        EntryJournal(path, HEADER)
