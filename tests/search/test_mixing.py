import copy

import pytest
import torch

from fasterseg.networks.operators import ZoomedOperator
from fasterseg.networks.slimmable import SlimmableLayers
from fasterseg.networks.space import SpaceConfig
from search.cells import CellInput, MixedOperator
from search.mixing import can_mix_convolved, mix_convolved, mix_finished


@pytest.mark.parametrize("parents", [1, 2])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(6, 8), (5, 7)])
def test_one_node_is_the_plain_form(space: SpaceConfig, parents: int, stride: int, size: tuple[int, int]) -> None:
    """Output, all gradients and the running statistics."""
    torch.manual_seed(0)
    layers = SlimmableLayers(space.widths, batch_parts=parents)
    mixed = MixedOperator(16, 16, stride=stride, operators=space.operators, layers=layers)
    mixed.double()  # or a rounding decides about a ReLU
    plain = copy.deepcopy(mixed)
    results = []
    for own, run in ((mixed, mix_convolved), (plain, None)):
        torch.manual_seed(1)
        maps = [torch.randn(2, 16, *size, dtype=torch.float64, requires_grad=True) for _ in range(parents)]
        weights = torch.rand(parents, len(space.operators), dtype=torch.float64, requires_grad=True)
        source = CellInput(maps)
        operators = list(own.operators)
        convolved = [
            each.convolve(source.half if isinstance(each, ZoomedOperator) else source.feature) for each in operators
        ]
        if run is not None:
            output = run(operators, convolved, weights, source.size)
        else:
            finished = [each.finish(one, source.size) for each, one in zip(operators, convolved, strict=True)]
            output = mix_finished(finished, weights)
        (output * torch.linspace(-1, 1, output.numel(), dtype=torch.float64).view_as(output)).sum().backward()
        gradients = [each.grad for each in (*maps, weights, *own.parameters()) if each.grad is not None]
        results.append([output.detach(), *gradients, *own.buffers()])
    assert len(results[0]) == len(results[1])
    for first, second in zip(*results, strict=True):
        torch.testing.assert_close(first, second)


def test_one_node_keeps_half_of_the_plain_form(space: SpaceConfig) -> None:
    """Values that stay for the way back, weights and inputs left out."""
    torch.manual_seed(0)
    mixed = MixedOperator(16, 16, stride=1, operators=space.operators, layers=SlimmableLayers(space.widths))
    convolved = [torch.randn(2, 16, 16, 16, requires_grad=True) for _ in space.operators]
    weights = torch.rand(1, len(space.operators), requires_grad=True)
    kept = []
    for in_one_node in (True, False):
        storages: dict[int, int] = {}

        def note(tensor: torch.Tensor, storages: dict[int, int] = storages) -> torch.Tensor:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            if in_one_node:
                mix_convolved(list(mixed.operators), convolved, weights, (16, 16))
            else:
                operators = zip(mixed.operators, convolved, strict=True)
                mix_finished([each.finish(one, (16, 16)) for each, one in operators], weights)
        kept.append(sum(storages.values()))
    assert kept[0] < 0.55 * kept[1]


def test_frozen_norms_get_no_gradient(space: SpaceConfig) -> None:
    mixed = MixedOperator(16, 16, stride=1, operators=space.operators, layers=SlimmableLayers(space.widths))
    mixed.requires_grad_(False)
    feature = torch.randn(2, 16, 6, 8, requires_grad=True)
    weights = torch.rand(1, len(space.operators), requires_grad=True)
    mixed(CellInput([feature]), weights).sum().backward()
    assert feature.grad is not None and weights.grad is not None
    assert all(parameter.grad is None for parameter in mixed.parameters())


def test_maps_of_bfloat16_add_up_to_bfloat16() -> None:
    maps = [torch.randn(4, 2, 3, 3, dtype=torch.bfloat16) for _ in range(3)]
    assert not can_mix_convolved(maps[0])
    assert mix_finished(maps, torch.rand(2, 3)).dtype == torch.bfloat16


def test_channels_last_gives_the_same(space: SpaceConfig) -> None:
    torch.manual_seed(0)
    mixed = MixedOperator(
        16, 32, stride=2, operators=space.operators, layers=SlimmableLayers(space.widths, batch_parts=2)
    ).eval()
    maps = [torch.randn(2, 16, 6, 8) for _ in range(2)]
    weights = torch.rand(2, len(space.operators))
    lying = [each.contiguous(memory_format=torch.channels_last) for each in maps]
    plain, last = mixed(CellInput(maps), weights), mixed(CellInput(lying), weights)
    assert last.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(plain, last, rtol=1e-4, atol=1e-5)
