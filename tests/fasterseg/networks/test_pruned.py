"""Pruned architectures: plain data both ways, networks of the stated sizes, and the operators that they really run."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fasterseg.networks import (
    Architecture,
    CellChoice,
    DerivedNetwork,
    OperatorSpec,
    architecture_from_dict,
    build_network,
    count_macs,
    derived_specs,
    load_architecture,
    network_specs,
)
from fasterseg.networks.icnet import ICNetArchitecture
from fasterseg.networks.operator_specs import random_input
from fasterseg.networks.pruned import (
    BaseArchitecture,
    PrunedArchitecture,
    PrunedCellSpec,
    PrunedHeadSpec,
    build_base,
    layer_channels,
    pruned_architecture,
    read_derived_specs,
)
from fasterseg.networks.pspnet import PSPNetArchitecture
from tests.released_student import released_student

CLASSES, SIZE = 5, (64, 96)
SEARCHED = Architecture(
    base_channels=4,
    stem_width=1.0,
    head_width=1.0,
    branches=(
        (CellChoice("skip", 8, 2, 1.0), CellChoice("conv_2x", 16, 2, 1.0)),
        (CellChoice("skip", 8, 2, 1.0), CellChoice("conv_2x_downup", 16, 1, 1.0)),
    ),
    shared_cells=1,
)
BASES: dict[str, BaseArchitecture] = {
    "icnet": ICNetArchitecture(width_factor=0.25),
    "pspnet50": PSPNetArchitecture(width_factor=0.25),
    "searched": SEARCHED,
}
# a layer of each base, what reads its output, and the batch norm between them
THINNED = {
    "icnet": ("backbone.layer1.0.reduce.conv", "backbone.layer1.0.reduce.norm", "backbone.layer1.0.spatial.conv"),
    "pspnet50": ("head.block.conv", "head.block.norm", "head.classifier"),
    "searched": ("stem.1.conv1", "stem.1.norm1", "stem.1.conv2"),
}


def thinned(family: str, *, count: int = 3) -> PrunedArchitecture:
    """A base with a few channels left in one layer."""
    base = BASES[family]
    channels = layer_channels(build_base(base, CLASSES))
    conv, norm, reader = THINNED[family]
    return PrunedArchitecture(
        base,
        ((conv, (channels[conv][0], count)), (norm, (count,)), (reader, (count, channels[reader][1]))),
    )


def spec_macs(spec: OperatorSpec) -> int:
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        spec.build().eval()(random_input(spec))
    return int(counter.get_total_flops()) // 2


@pytest.mark.parametrize("family", BASES)
def test_plain_data_both_ways_and_a_network_that_runs(family: str, tmp_path: Path) -> None:
    architecture = thinned(family)
    file = tmp_path / "architecture.json"
    file.write_text(json.dumps(architecture.to_dict()))
    assert load_architecture(file) == architecture and hash(architecture) == hash(load_architecture(file))
    network = build_network(architecture, CLASSES)
    assert all(layer_channels(network)[name] == counts for name, counts in architecture.channels)
    assert pruned_architecture(architecture.base, network, build_base(architecture.base, CLASSES)) == architecture
    output = network.train()(torch.randn(2, 3, *SIZE))
    assert output.main.shape[1] == CLASSES and output.auxiliary


@pytest.mark.parametrize("family", BASES)
def test_specifications_are_those_of_the_layers_as_they_are(family: str) -> None:
    architecture = thinned(family)
    network = build_network(architecture, CLASSES)
    specs = network.operator_specs(SIZE)
    assert specs == network_specs(architecture, CLASSES, input_size=SIZE)
    assert specs != network_specs(architecture.base, CLASSES, input_size=SIZE)
    assert sum(map(spec_macs, specs)) == count_macs(network, SIZE)
    for spec in specs:
        assert OperatorSpec.from_dict(spec.to_dict()) == spec


@pytest.mark.parametrize("architecture", [SEARCHED, released_student()], ids=["small", "released"])
def test_unpruned_layers_read_as_the_architecture_says(architecture: Architecture) -> None:
    network = DerivedNetwork(architecture, CLASSES)
    assert read_derived_specs(network, (75, 110)) == derived_specs(architecture, CLASSES, input_size=(75, 110))


def test_uneven_cells_and_heads_have_kinds_of_their_own() -> None:
    channels = layer_channels(build_base(SEARCHED, CLASSES))
    uneven: list[tuple[str, tuple[int, ...]]] = [
        ("branches.0.0.conv1", (channels["branches.0.0.conv1"][0], 5)),
        ("branches.0.0.norm", (5 + channels["branches.0.0.conv2"][1],)),
        ("head.block.conv", (channels["head.block.conv"][0], 7)),
        ("head.block.norm", (7,)),
        ("head.classifier", (7, CLASSES)),
    ]
    network = build_network(PrunedArchitecture(SEARCHED, tuple(uneven)), CLASSES)
    specs = {type(spec): spec for spec in network.operator_specs(SIZE)}
    skip, head = specs[PrunedCellSpec], specs[PrunedHeadSpec]
    assert isinstance(skip, PrunedCellSpec) and (skip.operator, skip.first_channels) == ("skip", 5)
    built = skip.build()
    assert built(random_input(skip)).shape == (1, skip.out_channels, skip.height // 2, skip.width // 2)
    assert isinstance(head, PrunedHeadSpec) and head.build()(random_input(head)).shape[1] == CLASSES
    parameters = [sum(value.numel() for value in module.parameters()) for module in (built, network.branches[0][0])]  # type: ignore[index]
    assert parameters[0] == parameters[1]
    assert all(isinstance(module, nn.Conv2d | nn.BatchNorm2d) for module in built.children())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "is no pruned architecture of version 1"),
        ({"channels": [1]}, r"channels is \[1\], expected a list of channel counts for each layer"),
        (
            {"channels": {"stem.0.conv": [3, 2.5]}},
            "channels of layer stem.0.conv are .*whole numbers",
        ),
        ({"channels": {"stem.0.conv": [3, 0]}}, r"channels of layer stem.0.conv are \[3, 0\], expected"),
        ({"base": {"format": "other"}}, "file: base is not an architecture"),
    ],
)
def test_damaged_data_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        architecture_from_dict({**thinned("icnet").to_dict(), **change}, "file")


def test_a_pruned_base_and_foreign_layers_are_refused() -> None:
    data = thinned("icnet").to_dict()
    with pytest.raises(ValueError, match="its base is itself pruned"):
        architecture_from_dict({**data, "base": data}, "file")
    architecture = thinned("icnet")
    foreign = replace(architecture, base=SEARCHED)
    with pytest.raises(ValueError, match=r"names a layer backbone\.layer1.*it belongs to another network"):
        build_network(foreign, CLASSES)
    with pytest.raises(ValueError, match="more than its base's"):
        build_network(thinned("icnet", count=1000), CLASSES)
