import random

import pytest

from fasterseg.networks import SpaceConfig
from fasterseg.networks.derivation import minimum_cells
from fasterseg.networks.sampling import random_architecture
from fasterseg.networks.space import BRANCH_PAIRS, Branches
from latency.budget import latency_range, resolve_budget_ms
from latency.config import TargetConfig
from latency.table import LatencyTable


def test_no_random_network_lies_outside_the_range(table: LatencyTable, space: SpaceConfig) -> None:
    found = latency_range(table, space)
    generator = random.Random(0)
    times = [table.predict_architecture(random_architecture(space, "student", generator)) for _ in range(500)]
    assert found.smallest_ms <= min(times) and max(times) <= found.largest_ms
    assert found.smallest_ms == table.predict_architecture(found.fastest)


def test_the_fastest_is_a_network_that_a_derivation_gives(table: LatencyTable, space: SpaceConfig) -> None:
    fastest = latency_range(table, space).fastest
    for end, branch in zip(fastest.ends, fastest.branches, strict=True):
        assert len(branch) >= minimum_cells(space.layers, end)
    assert {cell.width for branch in fastest.branches for cell in branch} == {0.5}


def test_a_share_lies_between_the_ends(table: LatencyTable, space: SpaceConfig, target: TargetConfig) -> None:
    found = latency_range(table, space)
    budgets = [
        resolve_budget_ms(target.model_copy(update={"budget_share": share}), table, space) for share in (0, 0.25, 1)
    ]
    expected = found.smallest_ms + 0.25 * (found.largest_ms - found.smallest_ms)
    assert budgets == pytest.approx([found.smallest_ms, expected, found.largest_ms])


def test_a_budget_out_of_reach_says_what_is_within(
    table: LatencyTable, space: SpaceConfig, target: TargetConfig
) -> None:
    smallest = latency_range(table, space).smallest_ms
    asked = smallest * 0.9
    with pytest.raises(ValueError, match=rf"budget_ms {asked:g} cannot be reached: .* takes {smallest:.4g} ms"):
        resolve_budget_ms(target.model_copy(update={"budget_ms": asked}), table, space)
    within = target.model_copy(update={"budget_ms": smallest * 1.01})
    assert resolve_budget_ms(within, table, space) == smallest * 1.01


def test_no_budget_is_an_error(table: LatencyTable, space: SpaceConfig, target: TargetConfig) -> None:
    with pytest.raises(ValueError, match="set target.budget_ms"):
        resolve_budget_ms(target, table, space)


@pytest.mark.parametrize("pair", BRANCH_PAIRS)
def test_the_range_of_one_pair_of_branches(
    table: LatencyTable, space: SpaceConfig, target: TargetConfig, pair: Branches
) -> None:
    of_both, of_one = latency_range(table, space), latency_range(table, space, pairs=(pair,))
    assert of_one.fastest.ends == pair
    assert of_both.smallest_ms <= of_one.smallest_ms < of_one.largest_ms <= of_both.largest_ms
    lowest = resolve_budget_ms(target.model_copy(update={"budget_share": 0.0}), table, space, pairs=(pair,))
    assert lowest == of_one.smallest_ms


def test_the_range_of_both_pairs_is_that_of_either(table: LatencyTable, space: SpaceConfig) -> None:
    each = [latency_range(table, space, pairs=(pair,)) for pair in BRANCH_PAIRS]
    assert latency_range(table, space).smallest_ms == min(found.smallest_ms for found in each)
    assert latency_range(table, space).largest_ms == max(found.largest_ms for found in each)
