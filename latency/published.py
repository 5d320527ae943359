"""The released program's latency table (`latency_lookup_table.npy`): read as one of our tables, and written.

It names an operator by its class, the size of the map it reads and its channels. It has no resizes: an imported table
counts them as nothing, and an exported one leaves them out.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from fasterseg.networks.operator_specs import CellSpec, ConvNormActSpec, HeadSpec, OperatorSpec, ResizeSpec
from fasterseg.networks.space import SpaceConfig
from fasterseg.runtime.importers.restricted import read_number_table, write_number_table
from latency.config import LatencyConfig
from latency.runners.base import Conditions
from latency.table import LatencyTable, TableEntry, TableTarget

RELEASED_DEVICE = "NVIDIA GeForce GTX 1080 Ti"
RELEASED_INPUT_SIZE = (1024, 2048)
RELEASED_CLASSES = 19

# our operators by the released program's class names; it has no others
_OPERATORS = {
    "FactorizedReduce": "skip",
    "BasicResidual1x": "conv",
    "BasicResidual_downup_1x": "conv_downup",
    "BasicResidual2x": "conv_2x",
    "BasicResidual_downup_2x": "conv_2x_downup",
}
_CLASS_OF = {operator: name for name, operator in _OPERATORS.items()}
_DILATED = frozenset(_OPERATORS) - {"FactorizedReduce"}
_MAP = r"_H(?P<height>\d+)_W(?P<width>\d+)"
_CHANNELS = r"_Cin(?P<in_channels>\d+)_Cout(?P<out_channels>\d+)"


def import_table(path: Path) -> LatencyTable:
    """The released table as one of our tables: TensorRT 5.1, FP32, GTX 1080 Ti, 1024×2048, 19 classes, its plain sums.

    Args:
        path: `latency_lookup_table.npy`; nothing in it is executed.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged or refused, a key is not understood, or a time is not positive.
    """
    entries: dict[OperatorSpec, TableEntry] = {}
    for key, time_ms in read_number_table(path).items():
        spec = read_key(key, source=str(path))
        if time_ms <= 0:
            raise ValueError(f"{path}: {key} takes {time_ms} ms, expected a positive time")
        if spec in entries and entries[spec].median_ms != time_ms:
            raise ValueError(f"{path}: two keys mean {spec.key}, with {entries[spec].median_ms} and {time_ms} ms")
        entries[spec] = _entry(time_ms)
    if not entries:
        raise ValueError(f"{path} holds no entries")
    return LatencyTable(
        target=TableTarget(
            runner="tensorrt",
            device="cuda",
            precision="fp32",
            threads=1,
            input_size=RELEASED_INPUT_SIZE,
            num_classes=RELEASED_CLASSES,
        ),
        space=SpaceConfig(),
        conditions=Conditions(
            runner="tensorrt",
            device="cuda",
            device_name=RELEASED_DEVICE,
            threads=1,
            precision="fp32",
            versions={"tensorrt": "5.1"},
        ),
        protocol=LatencyConfig(correction_networks=0),
        created="2019",
        reference_ms=1.0,
        entries=entries,
        uncounted_kinds=(ResizeSpec.kind,),
        source=str(path),
    )


def export_table(table: LatencyTable, path: Path) -> tuple[OperatorSpec, ...]:
    """Writes a table under the released program's keys; returns what such a table has no key for.

    Raises:
        ValueError: The table has nothing that it could hold.
    """
    named = {spec: write_key(spec) for spec in table.entries}
    times = {key: table.entry_ms(spec) for spec, key in named.items() if key is not None}
    if not times:
        raise ValueError(f"{table.source} holds no operator that the released program's table has a key for")
    write_number_table(path, times)
    return tuple(spec for spec, key in named.items() if key is None)


def read_key(key: str, *, source: str) -> OperatorSpec:
    """The specification that a key of the released table means.

    Raises:
        ValueError: The key is not understood; the message names `source`.
    """
    for pattern, build in _READERS:
        match = re.fullmatch(pattern, key)
        if match:
            fields = match.groupdict()
            name = fields.pop("name", "")
            return build(name, {field: int(value) for field, value in fields.items()})
    raise ValueError(
        f"{source}: key {key!r} is not understood; expected keys such as "
        "BasicResidual2x_H128_W256_Cin32_Cout48_stride1_dilation1 (is the dilation other than 1?)"
    )


def write_key(spec: OperatorSpec) -> str | None:
    """The key of a specification in the released table, None where it has no such operator."""
    size = f"_H{spec.height}_W{spec.width}"
    if isinstance(spec, CellSpec):
        name = _CLASS_OF.get(spec.operator)
        if name is None:
            return None
        key = f"{name}{size}_Cin{spec.in_channels}_Cout{spec.out_channels}_stride{spec.stride}"
        return key + "_dilation1" if name in _DILATED else key
    if isinstance(spec, HeadSpec):
        return f"head{size}_Cin{spec.in_channels}_Cout{spec.num_classes}"
    if isinstance(spec, ConvNormActSpec):
        if spec.kernel_size == 1 and spec.in_channels == spec.out_channels:
            return f"ff{size}_C{spec.in_channels}"
        channels = f"_Cin{spec.in_channels}_Cout{spec.out_channels}"
        return f"ConvNorm{size}{channels}_kernel{spec.kernel_size}_stride{spec.stride}"
    return None


def _cell(name: str, fields: Mapping[str, int]) -> OperatorSpec:
    return CellSpec(operator=_OPERATORS[name], **fields)


def _conv(_: str, fields: Mapping[str, int]) -> OperatorSpec:
    return ConvNormActSpec(**fields)


def _head(_: str, fields: Mapping[str, int]) -> OperatorSpec:
    return HeadSpec(**fields)


def _feature_fusion(_: str, fields: Mapping[str, int]) -> OperatorSpec:
    channels = fields["in_channels"]
    return ConvNormActSpec(**fields, out_channels=channels, kernel_size=1, stride=1)


_READERS: tuple[tuple[str, Callable[[str, Mapping[str, int]], OperatorSpec]], ...] = (
    (rf"(?P<name>FactorizedReduce){_MAP}{_CHANNELS}_stride(?P<stride>\d+)", _cell),
    (rf"(?P<name>{'|'.join(sorted(_DILATED))}){_MAP}{_CHANNELS}_stride(?P<stride>\d+)_dilation1", _cell),
    (rf"ConvNorm{_MAP}{_CHANNELS}_kernel(?P<kernel_size>\d+)_stride(?P<stride>\d+)", _conv),
    (rf"head{_MAP}_Cin(?P<in_channels>\d+)_Cout(?P<num_classes>\d+)", _head),
    (rf"ff{_MAP}_C(?P<in_channels>\d+)", _feature_fusion),
)


def _entry(time_ms: float) -> TableEntry:
    """A time of which the released table tells neither spread nor count."""
    return TableEntry(
        median_ms=time_ms, p95_ms=time_ms, spread=0.0, count=0, disturbed_count=0, stable=True, reference_ms=1.0
    )
