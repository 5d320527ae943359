from pathlib import Path

import pytest

from fasterseg.networks.derived import derived_specs
from fasterseg.networks.operator_specs import CellSpec, ConvNormActSpec, HeadSpec, OperatorSpec
from fasterseg.networks.presets import load_preset
from fasterseg.runtime.importers.published import import_architecture
from fasterseg.runtime.importers.restricted import load_foreign, read_number_table, write_number_table
from latency.published import export_table, import_table, read_key, write_key
from latency.table import LatencyTable

RELEASE = Path(__file__).resolve().parents[3] / "shared" / "fasterseg_release"
TABLE = RELEASE / "latency_lookup_table.npy"
needs_release = pytest.mark.skipif(not TABLE.is_file(), reason="the released table is not on this machine")

KEYS: dict[str, OperatorSpec] = {
    "FactorizedReduce_H64_W128_Cin96_Cout256_stride2": CellSpec(
        operator="skip", in_channels=96, height=64, width=128, out_channels=256, stride=2
    ),
    "BasicResidual1x_H32_W64_Cin384_Cout192_stride1_dilation1": CellSpec(
        operator="conv", in_channels=384, height=32, width=64, out_channels=192, stride=1
    ),
    "BasicResidual_downup_1x_H128_W256_Cin32_Cout64_stride2_dilation1": CellSpec(
        operator="conv_downup", in_channels=32, height=128, width=256, out_channels=64, stride=2
    ),
    "BasicResidual2x_H128_W256_Cin32_Cout48_stride1_dilation1": CellSpec(
        operator="conv_2x", in_channels=32, height=128, width=256, out_channels=48, stride=1
    ),
    "BasicResidual_downup_2x_H64_W128_Cin96_Cout320_stride2_dilation1": CellSpec(
        operator="conv_2x_downup", in_channels=96, height=64, width=128, out_channels=320, stride=2
    ),
    "ConvNorm_H64_W128_Cin352_Cout192_kernel3_stride1": ConvNormActSpec(
        in_channels=352, height=64, width=128, out_channels=192, kernel_size=3, stride=1
    ),
    "ff_H128_W256_C128": ConvNormActSpec(
        in_channels=128, height=128, width=256, out_channels=128, kernel_size=1, stride=1
    ),
    "head_H128_W256_Cin64_Cout19": HeadSpec(in_channels=64, height=128, width=256, num_classes=19),
}


@pytest.mark.parametrize("key", KEYS)
def test_a_key_means_a_specification_both_ways(key: str) -> None:
    assert read_key(key, source="table") == KEYS[key]
    assert write_key(KEYS[key]) == key


@pytest.mark.parametrize("key", ["Pool_H1_W1", "BasicResidual1x_H32_W64_Cin384_Cout192_stride1_dilation2", "ff_H1_W2"])
def test_other_keys_are_named(key: str) -> None:
    with pytest.raises(ValueError, match=f"table: key '{key}' is not understood"):
        read_key(key, source="table")


def test_a_small_table_goes_in_and_out(tmp_path: Path) -> None:
    times = {key: 0.1 * index for index, key in enumerate(KEYS, start=1)}
    write_number_table(tmp_path / "released.npy", times)
    table = import_table(tmp_path / "released.npy")
    table.save(tmp_path / "table.json")
    loaded = LatencyTable.load(tmp_path / "table.json")
    assert {write_key(spec): loaded.entry_ms(spec) for spec in loaded.entries} == times
    assert export_table(loaded, tmp_path / "back.npy") == ()
    assert read_number_table(tmp_path / "back.npy") == times


def test_times_that_cannot_be_are_refused(tmp_path: Path) -> None:
    key = next(iter(KEYS))
    for time_ms in (0.0, -1.0):
        write_number_table(tmp_path / "released.npy", {key: time_ms})
        with pytest.raises(ValueError, match="expected a positive time"):
            import_table(tmp_path / "released.npy")
    write_number_table(tmp_path / "released.npy", {})
    with pytest.raises(ValueError, match="holds no entries"):
        import_table(tmp_path / "released.npy")


@needs_release
def test_the_released_table_sums_to_the_recorded_times() -> None:
    table = import_table(TABLE)
    assert len(table.entries) == 667
    data = load_foreign(RELEASE / "arch_1.pt")
    assert isinstance(data, dict)
    other = import_architecture(data, source="arch_1.pt", branches="32-8")
    for architecture, expected_ms in (
        (load_preset("fasterseg-student"), 5.701835681642834),
        (other, 5.790294353859403),
    ):
        assert table.predict_architecture(architecture) == pytest.approx(expected_ms, rel=0, abs=1e-9)


@needs_release
def test_the_released_table_goes_out_as_it_came(tmp_path: Path) -> None:
    assert export_table(import_table(TABLE), tmp_path / "back.npy") == ()
    assert read_number_table(tmp_path / "back.npy") == read_number_table(TABLE)


@needs_release
def test_the_imported_table_lacks_no_operator_of_a_derived_network_and_misses_others() -> None:
    table = import_table(TABLE)
    with pytest.raises(ValueError, match="has no entry for"):
        table.predict_ms(derived_specs(load_preset("fasterseg-student"), 19, input_size=(512, 1024)))  # type: ignore[arg-type]
