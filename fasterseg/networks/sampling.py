"""Networks of a space from explicit or random choices: for budget fitting, checks and searches by latency alone.

The choices are those a search makes: one operator for each cell of the grid of layers and strides, one width for each
map, and the layers at which the branches go down. Branches that visit the same cell share the path to it. The rules of
a derived network are those of `derivation`.
"""

import itertools
import random
from dataclasses import dataclass

from fasterseg.networks.architecture import Architecture
from fasterseg.networks.derivation import Path, assemble, branch_cells, keeps_rules, path_of
from fasterseg.networks.operators import SKIP
from fasterseg.networks.space import BRANCH_PAIRS, STRIDES, ArchitectureSet, Branches, SpaceConfig

GridPosition = tuple[int, int]


@dataclass(frozen=True)
class GridChoices:
    """A network of the space as choices on the grid.

    Attributes:
        ends: The output stride at which each branch ends.
        downs: For each branch, the layers whose cell doubles the output stride, ascending.
        operators: The operator of the cell at (layer, stride); a skip means that the layer is left out.
        widths: The width multiplier of the map that (layer, stride) reads.
    """

    ends: Branches
    downs: tuple[tuple[int, ...], ...]
    operators: dict[GridPosition, str]
    widths: dict[GridPosition, float]

    def paths(self, layers: int) -> list[Path]:
        """For each branch, the output stride that each layer reads."""
        return [path_of(downs, layers) for downs in self.downs]

    def operators_along(self, path: Path) -> list[str]:
        """The operator of each layer of a path."""
        return [self.operators[position] for position in enumerate(path)]


def is_derivable(space: SpaceConfig, choices: GridChoices) -> bool:
    """Whether a derivation would not change these choices; see `derivation.keeps_rules`."""
    return all(keeps_rules(path, choices.operators_along(path)) for path in choices.paths(space.layers))


def build_architecture(space: SpaceConfig, choices: GridChoices, *, architecture_set: ArchitectureSet) -> Architecture:
    """The architecture of derivable choices; the last kept cell of a branch has the head width."""
    end_width = space.end_width(architecture_set)
    branches = []
    for path in choices.paths(space.layers):
        map_widths = {layer: choices.widths[layer, stride] for layer, stride in enumerate(path)}
        cells = branch_cells(path, choices.operators_along(path), map_widths, end_width=end_width)
        branches.append(cells)
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
        architecture_set: Teacher or student; the teacher has full width and no skips.
        generator: Random generator; the same state gives the same network.

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
    """All combinations of downs by which the branches reach their ends: for each branch, the layers of its downs.

    At least one layer follows each down. Every cell has one parent, so branches that have separated never visit the
    same cell again.
    """
    combinations = itertools.product(*(_branch_downs(space, end) for end in ends))
    return [downs for downs in combinations if not _meet_again([path_of(branch, space.layers) for branch in downs])]


def _branch_downs(space: SpaceConfig, end: int) -> list[tuple[int, ...]]:
    last = space.layers - 1
    if end == STRIDES[0]:
        return [()]
    if end == STRIDES[1]:
        return [(layer,) for layer in range(last)]
    return [(first, second) for second in range(2, last) for first in range(second - 1)]


def _meet_again(paths: list[Path]) -> bool:
    """Whether two branches visit a common cell after separating; branches of different ends always separate."""
    for first, second in itertools.combinations(paths, 2):
        together = [stride == other_stride for stride, other_stride in zip(first, second, strict=True)]
        if any(together[together.index(False) :]):
            return True
    return False
