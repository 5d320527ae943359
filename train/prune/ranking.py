"""Which filters are kept: the largest L1 norms of each layer, or of the whole network.

Source: Li et al., Pruning Filters for Efficient ConvNets, ICLR 2017.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from train.prune.filters import FilterGroup, Plan

Ranking = Literal["layer", "global"]
RANKINGS: tuple[Ranking, ...] = ("layer", "global")
# no layer of a global ranking becomes narrower than this part, so that none cuts the network in two
_SMALLEST_PART = 0.1


def check_factor(factor: float) -> None:
    """Refuses a factor that is no part of a layer.

    Raises:
        ValueError: It is not in (0, 1].
    """
    if not 0 < factor <= 1:
        raise ValueError(f"factor is {factor}, expected the part of the filters to keep, in (0, 1]; such as 0.5")


def rank_filters(groups: Sequence[FilterGroup], factor: float, *, ranking: Ranking = "layer") -> Plan:
    """The filters that are kept, in their order, by group.

    Args:
        groups: The network's.
        factor: Part of the filters to keep.
        ranking: `layer` keeps int(n·factor) of the n filters of every group; `global` that part of all filters, each
            norm in units of its group's mean, and a tenth of every group at least.

    Raises:
        ValueError: The factor is not in (0, 1].
    """
    check_factor(factor)
    counts = {group.name: max(1, _part_of(group.size, factor)) for group in groups}
    if ranking == "global" and factor < 1:
        counts = _global_counts(groups, factor)
    return {group.name: largest(group, counts[group.name]) for group in groups}


def largest(group: FilterGroup, count: int) -> tuple[int, ...]:
    """The indices of the `count` filters with the largest norms, ascending; of equal ones the first are kept."""
    return tuple(sorted(np.argsort(-group.norms, kind="stable")[:count].tolist()))


def _global_counts(groups: Sequence[FilterGroup], factor: float) -> dict[str, int]:
    relative = [group.norms / max(float(group.norms.mean()), np.finfo(np.float64).tiny) for group in groups]
    everything = np.sort(np.concatenate(relative))[::-1]
    cut = everything[max(1, _part_of(len(everything), factor)) - 1]
    return {
        group.name: max(1, int(group.size * _SMALLEST_PART), int((norms >= cut).sum()))
        for group, norms in zip(groups, relative, strict=True)
    }


def _part_of(count: int, factor: float) -> int:
    """int(count · factor), of the exact product: 48 · (0.5 / 0.75) is 32 although it comes out below."""
    return int(count * factor + 1e-9)
