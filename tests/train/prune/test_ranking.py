"""Which filters are kept."""

import numpy as np
import pytest

from train.prune.filters import FilterGroup
from train.prune.ranking import rank_filters

GROUPS = (
    FilterGroup("a", ("a",), np.array([4.0, 1.0, 3.0, 2.0])),
    FilterGroup("b", ("b", "c"), np.array([100.0, 1.0, 1.0, 1.0, 1.0, 1.0])),
)


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
