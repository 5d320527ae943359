from dataclasses import replace
from typing import Any

import pytest
import torch

from fasterseg.networks import OperatorSpec
from fasterseg.networks.operator_specs import (
    CellSpec,
    ClassifierSpec,
    ConvNormActSpec,
    HeadSpec,
    ResizeSpec,
    random_input,
)
from fasterseg.networks.pyramid import PyramidStageSpec, PyramidSumSpec
from fasterseg.networks.resnet import BottleneckSpec, ConvNormSpec, MaxPoolSpec

MAP = {"in_channels": 8, "height": 7, "width": 10}
BOTTLENECK = {"reduced_channels": 4, "spatial_channels": 6, "out_channels": 16, "dilation": 2}
SPECS: list[OperatorSpec] = [
    CellSpec(operator="conv", in_channels=8, out_channels=16, stride=2, height=7, width=10),
    ConvNormActSpec(in_channels=8, out_channels=16, kernel_size=3, stride=2, height=7, width=10),
    HeadSpec(in_channels=8, num_classes=5, height=7, width=10),
    ResizeSpec(in_channels=8, height=7, width=10, out_height=13, out_width=20),
    ConvNormSpec(**MAP, out_channels=16, kernel_size=3, dilation=2),
    BottleneckSpec(**MAP, **BOTTLENECK, stride=2, downsample=1),
    BottleneckSpec(**MAP, **{**BOTTLENECK, "out_channels": 8}, stride=1, downsample=0),
    MaxPoolSpec(**MAP),
    PyramidSumSpec(**MAP),
    PyramidStageSpec(**MAP, out_channels=4, bins=3),
    ClassifierSpec(**MAP, num_classes=5, bias=0),
]
OUTPUT_SHAPES = [
    (1, 16, 4, 5),
    (1, 16, 4, 5),
    (1, 5, 7, 10),
    (1, 8, 13, 20),
    (1, 16, 7, 10),
    (1, 16, 4, 5),
    (1, 8, 7, 10),
    (1, 8, 4, 5),
    (1, 8, 7, 10),
    (1, 4, 7, 10),
    (1, 5, 7, 10),
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.kind)
def test_plain_data_both_ways(spec: OperatorSpec) -> None:
    assert OperatorSpec.from_dict(spec.to_dict()) == spec
    assert {spec: 1}[OperatorSpec.from_dict(spec.to_dict())] == 1


@pytest.mark.parametrize(("spec", "shape"), list(zip(SPECS, OUTPUT_SHAPES, strict=True)), ids=lambda item: str(item))
def test_the_built_operator_reads_the_stated_shape(spec: OperatorSpec, shape: tuple[int, ...]) -> None:
    with torch.no_grad():
        assert spec.build().eval()(random_input(spec)).shape == shape
    assert random_input(spec, 3).shape == spec.input_shape(3) == (3, 8, 7, 10)


def test_every_field_changes_the_key() -> None:
    for spec in SPECS:
        for name, value in spec.to_dict().items():
            if name == "kind":
                continue
            other = replace(spec, **{name: "skip" if isinstance(value, str) else value + 1})
            assert other.key != spec.key, name
            assert other != spec


def test_keys_of_different_operators_differ() -> None:
    assert len({spec.key for spec in SPECS}) == len(SPECS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "pool"}, "unknown kind 'pool'; known kinds: cell, conv_norm_act"),
        ({"dilation": 2}, "cell specification has fields .*'dilation'.*expected"),
        ({"stride": None}, "stride is None, expected int"),
        ({"stride": True}, "stride is True, expected int"),
        ({"stride": "2"}, "stride is '2', expected int"),
        ({"operator": 3}, "operator is 3, expected str"),
    ],
)
def test_other_data_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OperatorSpec.from_dict({**SPECS[0].to_dict(), **change})


def test_missing_field_is_refused() -> None:
    data = SPECS[0].to_dict()
    del data["stride"]
    with pytest.raises(ValueError, match="expected .*'stride'"):
        OperatorSpec.from_dict(data)


def test_a_built_operator_is_not_shared() -> None:
    first, second = SPECS[1].build(), SPECS[1].build()
    with torch.no_grad():
        next(first.parameters()).zero_()
    assert next(second.parameters()).abs().sum() > 0


def test_a_classifier_has_a_bias_when_told() -> None:
    assert ClassifierSpec(**MAP, num_classes=5, bias=1).build().bias is not None
    assert ClassifierSpec(**MAP, num_classes=5, bias=0).build().bias is None
