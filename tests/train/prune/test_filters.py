"""Filter pruning: the pruned network computes what the network with zeroed filters computes, in every family."""

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from fasterseg.networks import Architecture, CellChoice, DerivedNetwork, Network, measure_size
from fasterseg.networks.icnet import ICNetArchitecture
from fasterseg.networks.pruned import layer_channels
from fasterseg.networks.pspnet import PSPNetArchitecture
from train.prune.filters import RANKINGS, FilterGraph, FilterGroup, Ranking, kept_indices, rank_filters

CLASSES = 5
GROUPS = (
    FilterGroup("a", ("a",), np.array([4.0, 1.0, 3.0, 2.0])),
    FilterGroup("b", ("b", "c"), np.array([100.0, 1.0, 1.0, 1.0, 1.0, 1.0])),
)


def derived() -> DerivedNetwork:
    """Every operator, the two-sided skip among them, and both branches."""
    shared = (CellChoice("skip", 8, 2, 1.0),)
    return DerivedNetwork(
        Architecture(
            base_channels=4,
            stem_width=1.0,
            head_width=1.0,
            branches=(
                (*shared, CellChoice("conv_2x", 16, 2, 1.0)),
                (*shared, CellChoice("conv_2x_downup", 16, 1, 1.0), CellChoice("conv_downup", 16, 1, 1.0)),
            ),
            shared_cells=1,
        ),
        CLASSES,
    )


FAMILIES: dict[str, Callable[[], Network]] = {
    "icnet": lambda: ICNetArchitecture(width_factor=0.25).build(CLASSES),
    "pspnet50": lambda: PSPNetArchitecture(width_factor=0.25).build(CLASSES),
    "derived": derived,
}


def trained(build: Callable[[], Network]) -> Network:
    """A network whose batch norms are as varied as trained ones."""
    torch.manual_seed(0)
    network = build()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return network.double().eval()


def logits(network: Network) -> list[torch.Tensor]:
    """Main and auxiliary logits of a fixed image of an odd size."""
    network.training = True
    image = torch.randn(1, 3, 75, 110, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        output = network(image)
    network.training = False
    return [output.main, *output.auxiliary]


def pruned(network: Network, factor: float, ranking: Ranking = "layer") -> tuple[Network, Network]:
    """The network with filters removed, and with the same ones zeroed."""
    hard, soft = copy.deepcopy(network).float(), copy.deepcopy(network).float()
    graph = FilterGraph(hard)
    plan = rank_filters(graph.groups, factor, ranking=ranking)
    graph.remove(plan)
    FilterGraph(soft).zero(plan)
    return hard.double(), soft.double()


@pytest.mark.parametrize("ranking", RANKINGS)
@pytest.mark.parametrize("family", FAMILIES)
def test_removed_filters_give_the_outputs_of_zeroed_ones(family: str, ranking: Ranking) -> None:
    network = trained(FAMILIES[family])
    hard, soft = pruned(network, 0.6, ranking)
    assert layer_channels(soft) == layer_channels(network) != layer_channels(hard)
    before = logits(network)
    for removed, zeroed, original in zip(logits(hard), logits(soft), before, strict=True):
        torch.testing.assert_close(removed, zeroed, rtol=1e-6, atol=1e-6)
        assert removed.shape == original.shape and not torch.allclose(removed, original, rtol=1e-2)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_factor_of_one_changes_no_bit(family: str) -> None:
    network = trained(FAMILIES[family])
    for same in pruned(network, 1.0):
        assert all(
            torch.equal(value, network.state_dict()[name].float()) for name, value in same.float().state_dict().items()
        )


@pytest.mark.parametrize("architecture", [ICNetArchitecture(), PSPNetArchitecture()], ids=["icnet", "pspnet50"])
def test_half_of_the_filters_are_a_quarter_of_the_network(architecture: ICNetArchitecture | PSPNetArchitecture) -> None:
    network = architecture.build(19).eval()
    before = measure_size(network, (128, 256))
    graph = FilterGraph(network)
    graph.remove(rank_filters(graph.groups, 0.5))
    after = measure_size(network, (128, 256))
    assert after.parameters / before.parameters == pytest.approx(0.25, rel=0.1)
    assert after.macs / before.macs == pytest.approx(0.25, rel=0.1)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_kept_filters_are_the_largest_ones_as_they_were(family: str) -> None:
    network = trained(FAMILIES[family]).float()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    graph = FilterGraph(network)
    plan = rank_filters(graph.groups, 0.5)
    kept = kept_indices(graph.groups, plan)
    for group in graph.groups:
        left = group.norms[list(plan[group.name])]
        assert len(left) == len(group.norms) // 2 and left.min() >= max(set(group.norms) - set(left))
        assert list(plan[group.name]) == sorted(plan[group.name])
    graph.remove(plan)
    after = network.state_dict()
    assert all(after[f"{name}.weight"].shape[0] == len(indices) for name, indices in kept.items())
    stem = next(name for name in kept if before[f"{name}.weight"].shape[1] == 3)
    assert torch.equal(after[f"{stem}.weight"], before[f"{stem}.weight"][kept[stem]])


def test_sums_keep_one_set_of_indices_and_classes_are_left_alone() -> None:
    network = FAMILIES["icnet"]()
    graph = FilterGraph(network.eval())
    convolutions = {frozenset(group.convolutions) for group in graph.groups}
    assert frozenset({"fusion8.low.conv", "fusion8.high.conv"}) in convolutions
    layer1 = {"backbone.layer1.0.downsample.conv", *(f"backbone.layer1.{unit}.expand.conv" for unit in range(3))}
    assert frozenset(layer1) in convolutions
    named = {name for group in graph.groups for name in group.convolutions}
    everything = {name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)}
    assert everything - named == {"classifier", "auxiliary_heads.8", "auxiliary_heads.16"}
    graph.remove(rank_filters(graph.groups, 0.25))
    output = network(torch.randn(1, 3, 64, 64)).main
    assert output.shape[1] == CLASSES


def test_each_layer_keeps_its_largest_filters_in_order() -> None:
    assert rank_filters(GROUPS, 0.5) == {"a": (0, 2), "b": (0, 1, 2)}
    assert rank_filters(GROUPS, 0.01) == {"a": (0,), "b": (0,)}
    assert rank_filters(GROUPS, 1.0) == {"a": (0, 1, 2, 3), "b": (0, 1, 2, 3, 4, 5)}


def test_filters_of_the_whole_network_compete_in_units_of_their_layer() -> None:
    # relative norms of a are 1.6, 0.4, 1.2, 0.8; of b 5.7 and five times 0.06
    assert rank_filters(GROUPS, 0.5, ranking="global") == {"a": (0, 1, 2, 3), "b": (0,)}


def test_exact_products_are_not_rounded_down() -> None:
    group = FilterGroup("a", ("a",), np.ones(48))
    assert len(rank_filters([group], 0.5 / 0.75)["a"]) == 32


@pytest.mark.parametrize("factor", [0.0, -0.5, 1.01, float("nan")])
def test_a_factor_that_is_no_part_is_refused(factor: float) -> None:
    with pytest.raises(ValueError, match=r"factor is .*, expected the part of the filters to keep, in \(0, 1\]"):
        rank_filters(GROUPS, factor)
