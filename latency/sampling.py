"""Networks of a space from explicit choices, and random ones: for fitting, checking and searching by time alone.

The choices are those a search makes: one operator for each cell of the grid of layers and strides, one width for each
map, and the layers at which the branches go down. Branches that visit the same cell came there together.
"""

import itertools
import random
from dataclasses import dataclass

from fasterseg.networks.architecture import Architecture, CellChoice
from fasterseg.networks.derivation import assemble
from fasterseg.networks.operators import SKIP
from fasterseg.networks.space import BRANCH_PAIRS, STRIDES, ArchitectureSet, Branches, SpaceConfig

GridPosition = tuple[int, int]


@dataclass(frozen=True)
class GridChoices:
    """A network of the space as choices on the grid.

    Attributes:
        ends: The output stride at which each branch ends.
        downs: For each branch, the layers whose cell takes the map to twice the stride, ascending.
        operators: The operator of the cell at (layer, stride); a skip means that the layer is left out.
        widths: The width multiplier of the map that (layer, stride) reads.
    """

    ends: Branches
    downs: tuple[tuple[int, ...], ...]
    operators: dict[GridPosition, str]
    widths: dict[GridPosition, float]


def minimum_cells(layers: int, end: int) -> int:
    """How many cells a branch keeps at least when skips are left out: a third, and two more for each down.

    Source: the released program's decoding (round(L / 3) + 2 · stride index of the end).
    """
    return min(layers, round(layers / 3) + 2 * STRIDES.index(end))


def branch_scales(layers: int, downs: tuple[int, ...]) -> list[int]:
    """The output stride that each layer of a branch reads."""
    return [STRIDES[sum(down < layer for down in downs)] for layer in range(layers)]


def kept_layers(space: SpaceConfig, choices: GridChoices, branch: int) -> list[int]:
    """The layers of a branch that stay: all but the skips."""
    scales = branch_scales(space.layers, choices.downs[branch])
    return [layer for layer, scale in enumerate(scales) if choices.operators[layer, scale] != SKIP]


def is_derivable(space: SpaceConfig, choices: GridChoices) -> bool:
    """Whether a derivation (`fasterseg.networks.derivation`) keeps these choices as they are.

    Every branch keeps its minimum of cells, no cell that goes down is a skip, and at least one cell with an operator
    of its own stays behind each down.
    """
    for branch, (end, downs) in enumerate(zip(choices.ends, choices.downs, strict=True)):
        kept = kept_layers(space, choices, branch)
        if len(kept) < minimum_cells(space.layers, end):
            return False
        scales = branch_scales(space.layers, downs)
        if any(choices.operators[layer, scales[layer]] == SKIP for layer in downs):
            return False
        bounds = (*downs, space.layers)
        for start, stop in zip(bounds, bounds[1:], strict=False):
            segment = range(start + 1, stop)
            if all(choices.operators[layer, scales[layer]] == SKIP for layer in segment):
                return False
    return True


def build_architecture(space: SpaceConfig, choices: GridChoices, *, architecture_set: ArchitectureSet) -> Architecture:
    """The architecture of derivable choices; a branch's last cell that stays puts out the head width."""
    end_width = space.end_width(architecture_set)
    branches: list[tuple[CellChoice, ...]] = []
    for index, downs in enumerate(choices.downs):
        scales = branch_scales(space.layers, downs)
        kept = kept_layers(space, choices, index)
        cells = []
        for layer in kept:
            stride = 2 if layer in downs else 1
            width = end_width if layer == kept[-1] else choices.widths[layer + 1, scales[layer] * stride]
            cells.append(CellChoice(choices.operators[layer, scales[layer]], scales[layer], stride, width))
        branches.append(tuple(cells))
    return assemble(space, branches, end_width=end_width)


def random_choices(space: SpaceConfig, architecture_set: ArchitectureSet, generator: random.Random) -> GridChoices:
    """Random derivable choices of a random pair of branches.

    Raises:
        ValueError: The space has too few layers for both branches of a pair.
    """
    ends = generator.choice(reachable_pairs(space))
    downs = generator.choice(down_choices(space, ends))
    names = space.operators[1:] if architecture_set == "teacher" else space.operators
    positions = [(layer, stride) for layer in range(space.layers) for stride in space.strides_at(layer)]
    operators = {position: generator.choice(names) for position in positions}
    widths = {position: generator.choice(space.set_widths(architecture_set)) for position in positions}
    choices = GridChoices(ends, downs, operators, widths)
    skips = [position for position in positions if operators[position] == SKIP]
    generator.shuffle(skips)
    # as a derivation does, skips become operators, one by one, until the rules hold
    while not is_derivable(space, choices):
        operators[skips.pop()] = generator.choice(space.operators[1:])
    return choices


def random_architecture(
    space: SpaceConfig, architecture_set: ArchitectureSet, generator: random.Random
) -> Architecture:
    """A random valid derived network of a space.

    Args:
        space: The search space.
        architecture_set: Whose widths and operators; the teacher has full width and no skips.
        generator: The source of randomness; the same state gives the same network.

    Raises:
        ValueError: The space has too few layers for both branches of a pair.
    """
    choices = random_choices(space, architecture_set, generator)
    return build_architecture(space, choices, architecture_set=architecture_set)


def reachable_pairs(space: SpaceConfig) -> list[Branches]:
    """The pairs of branches that the space has enough layers for.

    Raises:
        ValueError: There is none.
    """
    pairs = [ends for ends in BRANCH_PAIRS if down_choices(space, ends)]
    if not pairs:
        raise ValueError(f"space.layers {space.layers} is too few for a branch that ends at stride 32; use 8 or more")
    return pairs


def down_choices(space: SpaceConfig, ends: Branches) -> list[tuple[tuple[int, ...], ...]]:
    """All ways for the branches to reach the strides of their ends: for each branch, the layers of its downs.

    A layer stays behind each down. Every cell has one parent, so branches that have parted do not visit a common cell.
    """
    ways = itertools.product(*(_branch_downs(space, end) for end in ends))
    return [downs for downs in ways if not _meet_again(space.layers, downs)]


def _branch_downs(space: SpaceConfig, end: int) -> list[tuple[int, ...]]:
    last = space.layers - 1
    if end == STRIDES[0]:
        return [()]
    if end == STRIDES[1]:
        return [(layer,) for layer in range(last)]
    return [(first, second) for second in range(2, last) for first in range(second - 1)]


def _meet_again(layers: int, downs: tuple[tuple[int, ...], ...]) -> bool:
    for one, other in itertools.combinations((branch_scales(layers, branch) for branch in downs), 2):
        together = [stride == other_stride for stride, other_stride in zip(one, other, strict=True)]
        if any(together[together.index(False) :]):
            return True
    return False
