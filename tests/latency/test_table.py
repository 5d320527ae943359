import json
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fasterseg.networks import SpaceConfig, derived_specs
from fasterseg.networks.families import network_specs
from fasterseg.networks.operator_specs import HeadSpec
from fasterseg.networks.presets import load_preset
from fasterseg.networks.sampling import random_architecture
from latency.config import LatencyConfig, TargetConfig
from latency.correction import Correction
from latency.runners.onnxruntime import OnnxRuntimeRunner
from latency.table import LatencyTable, TableEntry, entry_from_data, entry_to_data
from latency.timing import measure_sessions, reference_session

SPEC = HeadSpec(in_channels=4, height=8, width=12, num_classes=3)
ENTRY = TableEntry(median_ms=1.0, p95_ms=1.5, spread=0.02, count=30, disturbed_count=2, stable=True, reference_ms=0.5)


def test_records_round_trip() -> None:
    assert entry_from_data(entry_to_data(SPEC, ENTRY)) == (SPEC, ENTRY)


def test_an_entry_at_another_machine_speed() -> None:
    slower = ENTRY.at_speed(0.6)
    assert (slower.median_ms, slower.p95_ms) == pytest.approx((1.2, 1.8))


def test_an_entry_of_a_measurement(quick: LatencyConfig) -> None:
    runner = OnnxRuntimeRunner(threads=1)
    session = runner.prepare(SPEC.build(), SPEC.input_shape())
    (measurement,) = measure_sessions(
        [session], runner.conditions(), protocol=quick, reference=reference_session(runner)
    )
    entry = TableEntry.of(measurement)
    assert measurement.relative is not None
    assert entry.median_ms == pytest.approx(measurement.relative * entry.reference_ms, rel=1e-4)
    assert entry.p95_ms >= entry.median_ms and entry.count == measurement.count


@pytest.mark.parametrize("data", [None, 3, [], {"median_ms": 1.0}])
def test_what_is_no_record_is_refused(data: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        entry_from_data(data)


def test_round_trip(table: LatencyTable, tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    table.save(path)
    loaded = LatencyTable.load(path)
    assert loaded.entries == table.entries and list(loaded.entries) == list(table.entries)
    assert (loaded.target, loaded.space, loaded.conditions) == (table.target, table.space, table.conditions)
    assert (loaded.protocol, loaded.correction, loaded.created) == (table.protocol, table.correction, table.created)
    assert loaded.source == str(path) and loaded.to_json() == path.read_text()
    assert not list(tmp_path.glob("*.tmp"))


def test_the_file_has_one_line_for_each_entry(table: LatencyTable) -> None:
    lines = table.to_json().splitlines()
    assert all(sum(f'"{spec.key}": ' in line for line in lines) == 1 for spec in table.entries)


def test_prediction_is_the_corrected_sum(table: LatencyTable, space: SpaceConfig) -> None:
    architecture = random_architecture(space, "student", random.Random(0))
    specs = derived_specs(architecture, table.target.num_classes, input_size=table.target.input_size)
    total = math.fsum(table.entries[spec].median_ms for spec in specs)
    assert table.sum_ms(specs) == pytest.approx(total)
    assert table.predict_ms(specs) == pytest.approx(total)
    corrected = LatencyTable(**{**vars(table), "correction": Correction(1.5, -0.0001, 0.25)})
    assert corrected.predict_architecture(architecture) == pytest.approx(1.5 * total - 0.0001 * len(specs) + 0.25)


def test_a_missing_entry_is_named_with_the_command_that_measures_it(table: LatencyTable) -> None:
    spec = HeadSpec(in_channels=77, height=8, width=12, num_classes=3)
    with pytest.raises(ValueError, match=r"no entry for head/77/3/8x12; .*`python -m latency table --config FILE`"):
        table.predict_ms([spec])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threads": 2}, r"threads 1 \(asked for: 2\)"),
        ({"runner": "pytorch"}, r"runner onnxruntime \(asked for: pytorch\)"),
        ({"precision": "bf16"}, r"precision fp32 \(asked for: bf16\)"),
        ({"mode": "channels_last"}, r"mode cpu \(asked for: channels_last\)"),
        ({"tf32": True}, r"tf32 False \(asked for: True\)"),
        ({"input_size": (64, 64)}, r"input_size \(64, 96\) \(asked for: \(64, 64\)\)"),
    ],
)
def test_another_target_is_refused(
    table: LatencyTable, target: TargetConfig, change: dict[str, Any], message: str
) -> None:
    table.check_target(target, space=table.space, num_classes=3)
    with pytest.raises(ValueError, match=f"measured for another target: {message}; measure this one with"):
        table.check_target(target.model_copy(update=change))


def test_another_space_or_class_count_is_refused(table: LatencyTable, target: TargetConfig) -> None:
    with pytest.raises(ValueError, match=r"num_classes 3 \(asked for: 19\)"):
        table.check_target(target, num_classes=19)
    with pytest.raises(ValueError, match=r"space.base_channels 4 \(asked for: 6\)"):
        table.check_target(target, space=table.space.model_copy(update={"base_channels": 6}))


def test_auto_takes_what_was_measured(table: LatencyTable, target: TargetConfig) -> None:
    table.check_target(target.model_copy(update={"runner": "auto", "device": "auto", "mode": "auto"}))


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf"), "fast", None])
def test_impossible_times_are_refused(table: LatencyTable, tmp_path: Path, value: object) -> None:
    data = json.loads(table.to_json())
    key = next(iter(data["entries"]))
    data["entries"][key]["median_ms"] = value
    path = tmp_path / "table.json"
    path.write_text(json.dumps(data))
    with pytest.raises(ValueError, match=r"table.json is corrupted: entries\.conv_norm_act.*median_ms: got"):
        LatencyTable.load(path)


def test_damaged_files_are_refused(table: LatencyTable, tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    with pytest.raises(FileNotFoundError, match="no latency table at"):
        LatencyTable.load(path)
    text = table.to_json()
    path.write_text(text[: len(text) // 2])
    with pytest.raises(ValueError, match="is not valid JSON"):
        LatencyTable.load(path)
    path.write_text("[]")
    with pytest.raises(ValueError, match="is not a latency table"):
        LatencyTable.load(path)
    path.write_text(text.replace('"version": 3', '"version": 9', 1))
    with pytest.raises(ValueError, match="has version 9, this release reads version 3"):
        LatencyTable.load(path)


@pytest.mark.parametrize("section", ["target", "conditions", "entries", "correction", "space"])
def test_a_table_without_a_section_is_refused(table: LatencyTable, tmp_path: Path, section: str) -> None:
    data = json.loads(table.to_json())
    del data[section]
    path = tmp_path / "table.json"
    path.write_text(json.dumps(data))
    with pytest.raises(ValueError, match=f"is corrupted: {section}"):
        LatencyTable.load(path)


def test_an_entry_under_another_key_is_refused(table: LatencyTable, tmp_path: Path) -> None:
    data = json.loads(table.to_json())
    keys = list(data["entries"])
    data["entries"][keys[0]], data["entries"][keys[1]] = data["entries"][keys[1]], data["entries"][keys[0]]
    path = tmp_path / "table.json"
    path.write_text(json.dumps(data))
    with pytest.raises(ValueError, match="its specification is"):
        LatencyTable.load(path)


def test_what_is_missing_is_listed_once(table: LatencyTable) -> None:
    known, unknown = next(iter(table.entries)), HeadSpec(in_channels=77, height=8, width=12, num_classes=3)
    assert table.missing([unknown, known, unknown]) == (unknown,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rounds": 9}, r"latency.rounds 3 \(asked for: 9\)"),
        ({"round_ms": 5.0}, r"latency.round_ms 0.2 \(asked for: 5.0\)"),
        ({"spread_bound": 0.2}, r"latency.spread_bound 0.1 \(asked for: 0.2\)"),
    ],
)
def test_another_way_of_measuring_is_refused(table: LatencyTable, change: dict[str, Any], message: str) -> None:
    table.check_protocol(table.protocol.model_copy(update={"seed": 7, "correction_networks": 12}))
    with pytest.raises(ValueError, match=f"was measured another way: {message}; set these back, or measure into"):
        table.check_protocol(table.protocol.model_copy(update=change))


def test_another_machine_is_refused(table: LatencyTable) -> None:
    table.check_machine(replace(table.conditions, clocks_mhz={"sm": 1}))
    with pytest.raises(ValueError, match=r"another machine .*: device_name a processor \(now: another\); entries of"):
        table.check_machine(replace(table.conditions, device_name="another"))
    with pytest.raises(ValueError, match=r"version of onnxruntime 1 \(now: 2\)"):
        table.check_machine(replace(table.conditions, versions={"torch": "2", "onnxruntime": "2"}))


def test_a_correction_belongs_to_its_networks(table: LatencyTable) -> None:
    protocol = table.protocol
    assert table.has_correction_of(protocol.model_copy(update={"seed": 5})), "the plain sum has no networks"
    fitted = replace(
        table,
        correction=Correction(networks=12),
        protocol=protocol.model_copy(update={"correction_networks": 12}),
    )
    assert fitted.has_correction_of(fitted.protocol)
    assert not fitted.has_correction_of(protocol)
    assert not fitted.has_correction_of(fitted.protocol.model_copy(update={"seed": 5}))


@pytest.mark.parametrize("preset", ["icnet", "icnet-half", "pspnet50"])
def test_a_table_predicts_the_baselines_from_their_own_operators(table: LatencyTable, preset: str) -> None:
    architecture = load_preset(preset)
    specs = network_specs(architecture, table.target.num_classes, input_size=table.target.input_size)
    with pytest.raises(ValueError, match=r"--only-missing --for NETWORK"):
        table.predict_architecture(architecture)
    any_entry = next(iter(table.entries.values()))
    own = {spec: replace(any_entry, median_ms=1.0 + index) for index, spec in enumerate(dict.fromkeys(specs))}
    wider = replace(table, entries={**table.entries, **own}, correction=Correction(1.5, -0.01, 0.2))
    by_hand = 1.5 * math.fsum(wider.entries[spec].median_ms for spec in specs) - 0.01 * len(specs) + 0.2
    assert wider.predict_architecture(architecture) == pytest.approx(by_hand)


def test_a_table_with_a_baselines_operators_round_trips(table: LatencyTable, tmp_path: Path) -> None:
    specs = network_specs(load_preset("pspnet50"), 3, input_size=table.target.input_size)
    any_entry = next(iter(table.entries.values()))
    wider = replace(table, entries={**table.entries, **dict.fromkeys(specs, any_entry)})
    wider.save(tmp_path / "table.json")
    assert LatencyTable.load(tmp_path / "table.json").entries == wider.entries
