"""What a space can reach in time, by a table: its fastest and slowest student, and the budget in milliseconds.

Both ends are real networks, found among those that a derivation can give: from the best choice of paths with the
cheapest (dearest) operators and widths, choices are changed one at a time for as long as that helps.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace

from fasterseg.networks.architecture import Architecture
from fasterseg.networks.operator_specs import CellSpec
from fasterseg.networks.operators import SKIP
from fasterseg.networks.resizing import strided
from fasterseg.networks.sampling import (
    GridChoices,
    GridPosition,
    build_architecture,
    down_choices,
    is_derivable,
    reachable_pairs,
)
from fasterseg.networks.space import BRANCH_PAIRS, ArchitectureSet, Branches, SpaceConfig
from latency.config import TargetConfig
from latency.table import LatencyTable

_STARTS = 4
_STUDENT: ArchitectureSet = "student"


@dataclass(frozen=True)
class LatencyRange:
    """The predicted times that a space's student can have.

    Attributes:
        smallest_ms: Of the fastest network found.
        largest_ms: Of the slowest network found.
        fastest: The fastest network found.
    """

    smallest_ms: float
    largest_ms: float
    fastest: Architecture


def latency_range(
    table: LatencyTable, space: SpaceConfig, *, pairs: Collection[Branches] = BRANCH_PAIRS
) -> LatencyRange:
    """The times of the fastest and the slowest student of a space, as the table predicts them.

    Args:
        table: The times.
        space: The search space.
        pairs: The pairs of branch ends that a student may have.

    Raises:
        ValueError: The table lacks an operator of the space, or the space has too few layers.
    """
    fastest, slowest = (_extreme(table, space, pairs, sign=sign) for sign in (1, -1))
    return LatencyRange(
        smallest_ms=table.predict_architecture(fastest),
        largest_ms=table.predict_architecture(slowest),
        fastest=fastest,
    )


def resolve_budget_ms(
    target: TargetConfig, table: LatencyTable, space: SpaceConfig, *, pairs: Collection[Branches] = BRANCH_PAIRS
) -> float:
    """The budget in milliseconds; a share is taken of the space's range.

    Args:
        target: Its budget.
        table: The times.
        space: The search space.
        pairs: The pairs of branch ends that a student may have.

    Raises:
        ValueError: No budget is set, or the space cannot reach it; the message says what it can reach.
    """
    if target.budget_ms is None and target.budget_share is None:
        raise ValueError("target has no budget; set target.budget_ms (milliseconds), or target.budget_share (0 to 1)")
    reachable = latency_range(table, space, pairs=pairs)
    if target.budget_share is not None:
        return reachable.smallest_ms + target.budget_share * (reachable.largest_ms - reachable.smallest_ms)
    assert target.budget_ms is not None
    if target.budget_ms < reachable.smallest_ms:
        raise ValueError(
            f"target.budget_ms {target.budget_ms:g} cannot be reached: the fastest network of this space takes "
            f"{reachable.smallest_ms:.4g} ms on {table.target.describe()}; raise the budget, or lower "
            "space.base_channels, space.layers, the smallest of space.widths, or target.input_size"
        )
    return target.budget_ms


def _extreme(table: LatencyTable, space: SpaceConfig, pairs: Collection[Branches], *, sign: int) -> Architecture:
    """The network with the smallest (`sign` 1) or largest (-1) predicted time that the search finds."""

    def cost(choices: GridChoices) -> float:
        return sign * table.predict_architecture(_build(space, choices))

    starts = sorted(
        (cost(choices), index, choices) for index, choices in enumerate(_starts(space, pairs, sign=sign, table=table))
    )
    found = min((_descend(space, choices, cost) for _, _, choices in starts[:_STARTS]), key=cost)
    return _build(space, found)


def _build(space: SpaceConfig, choices: GridChoices) -> Architecture:
    return build_architecture(space, choices, architecture_set=_STUDENT)


def _starts(
    space: SpaceConfig, pairs: Collection[Branches], *, sign: int, table: LatencyTable
) -> Iterator[GridChoices]:
    """One network for every choice of paths: extreme operators and widths, as many layers left out as allowed."""
    positions = [(layer, stride) for layer in range(space.layers) for stride in space.strides_at(layer)]
    width = space.widths[0] if sign > 0 else space.widths[-1]
    widths = dict.fromkeys(positions, width)
    operators = {position: _extreme_operator(space, table, position[1], sign=sign) for position in positions}
    for ends in (pair for pair in reachable_pairs(space) if pair in pairs):
        for downs in down_choices(space, ends):
            choices = GridChoices(ends, downs, operators, widths)
            if is_derivable(space, choices):
                yield _leave_out(space, choices) if sign > 0 else choices


def _extreme_operator(space: SpaceConfig, table: LatencyTable, stride: int, *, sign: int) -> str:
    """The cheapest (dearest) operator that keeps the map at an output stride, by the sum of its entries there."""
    size = strided(table.target.input_size, stride)
    sums = dict.fromkeys(space.operators[1:], 0.0)
    for spec, entry in table.entries.items():
        if (
            isinstance(spec, CellSpec)
            and spec.operator in sums
            and (spec.stride, spec.height, spec.width) == (1, *size)
        ):
            sums[spec.operator] += sign * entry.median_ms
    return min(sums, key=lambda name: sums[name])


def _leave_out(space: SpaceConfig, choices: GridChoices) -> GridChoices:
    """Leaves out as many layers as the derivation's rules allow, those of small strides first."""
    for position in sorted(_used_positions(space, choices), key=lambda position: (position[1], position[0])):
        shorter = replace(choices, operators={**choices.operators, position: SKIP})
        if is_derivable(space, shorter):
            choices = shorter
    return choices


def _used_positions(space: SpaceConfig, choices: GridChoices) -> list[GridPosition]:
    """The cells that a branch visits."""
    return sorted({position for path in choices.paths(space.layers) for position in enumerate(path)})


def _descend(space: SpaceConfig, choices: GridChoices, cost: Callable[[GridChoices], float]) -> GridChoices:
    """Changes one operator or width at a time for as long as that lowers the cost."""
    lowest = cost(choices)
    improved = True
    while improved:
        improved = False
        for candidate in _neighbours(space, choices):
            if is_derivable(space, candidate) and (candidate_cost := cost(candidate)) < lowest:
                choices, lowest, improved = candidate, candidate_cost, True
                break
    return choices


def _neighbours(space: SpaceConfig, choices: GridChoices) -> Iterator[GridChoices]:
    """The choices that differ in one operator or one width."""
    for position in _used_positions(space, choices):
        for name in space.operators:
            if name != choices.operators[position]:
                yield replace(choices, operators={**choices.operators, position: name})
        for width in space.widths:
            if width != choices.widths[position]:
                yield replace(choices, widths={**choices.widths, position: width})
