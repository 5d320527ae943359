from dataclasses import replace

import pytest
import torch

from fasterseg.networks import OperatorSpec
from fasterseg.networks.baseline_specs import (
    BottleneckSpec,
    ClassifierSpec,
    ConvNormSpec,
    MaxPoolSpec,
    PyramidStageSpec,
    PyramidSumSpec,
)
from fasterseg.networks.specs import random_input

MAP = {"in_channels": 8, "height": 7, "width": 10}
BOTTLENECK = {"reduced_channels": 4, "spatial_channels": 6, "out_channels": 16, "dilation": 2}
SPECS: list[tuple[OperatorSpec, tuple[int, ...]]] = [
    (ConvNormSpec(**MAP, out_channels=16, kernel_size=3, dilation=2), (1, 16, 7, 10)),
    (BottleneckSpec(**MAP, **BOTTLENECK, stride=2, downsample=1), (1, 16, 4, 5)),
    (BottleneckSpec(**MAP, **{**BOTTLENECK, "out_channels": 8}, stride=1, downsample=0), (1, 8, 7, 10)),
    (MaxPoolSpec(**MAP), (1, 8, 4, 5)),
    (PyramidSumSpec(**MAP), (1, 8, 7, 10)),
    (PyramidStageSpec(**MAP, out_channels=4, bins=3), (1, 4, 7, 10)),
    (ClassifierSpec(**MAP, num_classes=5, bias=0), (1, 5, 7, 10)),
]


@pytest.mark.parametrize(("spec", "shape"), SPECS, ids=lambda item: item.kind if isinstance(item, OperatorSpec) else "")
def test_plain_data_both_ways_and_a_module_of_the_stated_shapes(spec: OperatorSpec, shape: tuple[int, ...]) -> None:
    assert OperatorSpec.from_dict(spec.to_dict()) == spec
    with torch.no_grad():
        assert spec.build().eval()(random_input(spec)).shape == shape


def test_every_field_changes_the_key() -> None:
    for spec, _ in SPECS:
        for name, value in spec.to_dict().items():
            if name != "kind":
                assert replace(spec, **{name: value + 1}).key != spec.key, name
    assert len({spec.key for spec, _ in SPECS}) == len(SPECS)


def test_a_classifier_has_a_bias_when_told() -> None:
    assert ClassifierSpec(**MAP, num_classes=5, bias=1).build().bias is not None
    assert ClassifierSpec(**MAP, num_classes=5, bias=0).build().bias is None
