import copy

import torch

from fasterseg.networks import SpaceConfig
from fasterseg.networks.slimmable import SlimmableLayers
from search.cells import Cell, CellInput, MixedOperator
from search.mixing import mix_finished


def test_two_parents_in_one_batch_are_two_runs(space: SpaceConfig) -> None:
    """Outputs, gradients and running statistics are those of one run after the other."""
    torch.manual_seed(0)
    together = MixedOperator(
        16, 16, stride=1, operators=space.operators, layers=SlimmableLayers(space.widths, batch_parts=2)
    ).double()  # or a rounding decides about a ReLU
    apart = MixedOperator(16, 16, stride=1, operators=space.operators, layers=SlimmableLayers(space.widths)).double()
    apart.load_state_dict(together.state_dict())
    maps = [shift + torch.randn(3, 16, 6, 8, dtype=torch.float64) for shift in (0, 2)]
    weights = torch.rand(2, 5, dtype=torch.float64)
    both = together(CellInput(maps), weights)
    singly = sum(apart(CellInput([maps[index]]), weights[index : index + 1]) for index in range(2))
    torch.testing.assert_close(both, singly)
    for mixed, output in ((together, both), (apart, singly)):
        output.square().mean().backward()
        assert mixed is together or mixed is apart
    for (name, first), second in zip(together.named_parameters(), apart.parameters(), strict=True):
        if first.grad is not None:
            torch.testing.assert_close(first.grad, second.grad, msg=name)
    for (name, first), second in zip(together.named_buffers(), apart.buffers(), strict=True):
        torch.testing.assert_close(first, second, msg=name)


def test_in_evaluation_the_parts_share_the_statistics(space: SpaceConfig) -> None:
    mixed = MixedOperator(
        16, 16, stride=1, operators=space.operators, layers=SlimmableLayers(space.widths, batch_parts=2)
    )
    mixed.eval()
    feature = torch.randn(1, 16, 6, 8)
    weights = torch.full((2, 5), 0.1)
    twice = mixed(CellInput([feature, feature]), weights)
    torch.testing.assert_close(twice, 2 * mixed(CellInput([feature]), weights[:1]))


def test_mix_is_a_weighted_sum() -> None:
    maps = [torch.randn(4, 2, 3, 3) for _ in range(3)]
    weights = torch.rand(2, 3)
    by_hand = sum(
        weights[parent, index] * feature[2 * parent : 2 * parent + 2]
        for parent in range(2)
        for index, feature in enumerate(maps)
    )
    torch.testing.assert_close(mix_finished(maps, weights), by_hand)


def test_a_first_cell_has_one_parent_and_the_last_no_way_down(space: SpaceConfig) -> None:
    assert Cell(space, 1, 16).num_parents == 1
    assert Cell(space, 2, 16).num_parents == 2
    assert Cell(space, 5, 8).num_parents == 1
    assert Cell(space, space.layers - 1, 8).down is None
    assert Cell(space, 3, 32).down is None


def test_a_cell_can_be_copied(space: SpaceConfig) -> None:
    cell = Cell(space, 3, 16)
    assert copy.deepcopy(cell).state_dict().keys() == cell.state_dict().keys()
