import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from fasterseg.networks import DerivedNetwork, SpaceConfig
from fasterseg.networks.derivation import (
    FROM_DOWN,
    FROM_KEEP,
    ArchitectureLogits,
    derive_architecture,
    minimum_cells,
    path_of,
)
from fasterseg.networks.sampling import (
    GridChoices,
    build_architecture,
    down_choices,
    is_derivable,
    random_architecture,
    random_choices,
    reachable_pairs,
)
from fasterseg.networks.space import STRIDES, first_layer


@pytest.fixture
def space() -> SpaceConfig:
    return SpaceConfig(layers=8, base_channels=4, widths=(0.5, 1.0), student_width=0.5)


def test_the_same_seed_gives_the_same_networks(space: SpaceConfig) -> None:
    first, second = (
        [random_architecture(space, "student", generator) for _ in range(5)]
        for generator in (random.Random(1), random.Random(1))
    )
    assert first == second and len(set(first)) > 1


@pytest.mark.parametrize("architecture_set", ["teacher", "student"])
def test_random_networks_run(space: SpaceConfig, architecture_set: str) -> None:
    generator = random.Random(0)
    for _ in range(5):
        architecture = random_architecture(space, architecture_set, generator)  # type: ignore[arg-type]
        assert architecture.ends in ((32, 16), (32, 8))
        network = DerivedNetwork(architecture, 3).eval()
        with torch.inference_mode():
            assert network(torch.zeros(1, 3, 65, 97)).main.shape == (1, 3, 9, 13)


def test_random_networks_keep_the_rules(space: SpaceConfig) -> None:
    generator = random.Random(0)
    for _ in range(200):
        architecture = random_architecture(space, "student", generator)
        for end, branch in zip(architecture.ends, architecture.branches, strict=True):
            assert minimum_cells(space.layers, end) <= len(branch) <= space.layers
            assert all(cell.operator != "skip" for cell in branch)


def favouring(space: SpaceConfig, choices: GridChoices) -> ArchitectureLogits:
    """Parameters that favour these choices; where no branch of the pair goes, they favour operators and staying."""
    used = {position for downs in choices.downs for position in enumerate(path_of(downs, space.layers))}
    entries = {(layer + 1, path_of(downs, space.layers)[layer + 1]) for downs in choices.downs for layer in downs}
    operators, parents, widths = {}, {}, {}
    for stride in STRIDES:
        cells = [(layer, stride) for layer in range(first_layer(stride), space.layers)]
        names = [choices.operators[cell] if cell in used else space.operators[1] for cell in cells]
        operators[stride] = 5.0 * np.eye(len(space.operators))[[space.operators.index(name) for name in names]]
        maps = [space.widths.index(choices.widths[cell]) for cell in cells if cell[0] >= 1]
        widths[stride] = 5.0 * np.eye(len(space.widths))[maps]
        if stride > STRIDES[0]:
            parents[stride] = 5.0 * np.eye(2)[[FROM_DOWN if cell in entries else FROM_KEEP for cell in cells[1:]]]
    return ArchitectureLogits(operators, parents, widths)


def test_a_derivation_gives_the_network_of_the_choices(space: SpaceConfig) -> None:
    generator = random.Random(0)
    for _ in range(200):
        choices = random_choices(space, "student", generator)
        derived = derive_architecture(favouring(space, choices), space, architecture_set="student", ends=choices.ends)
        assert derived == build_architecture(space, choices, architecture_set="student")


def test_the_teacher_has_full_width_and_no_skips(space: SpaceConfig) -> None:
    generator = random.Random(0)
    for _ in range(50):
        branches = random_architecture(space, "teacher", generator).branches
        assert all(cell.width == 1 and cell.operator != "skip" for branch in branches for cell in branch)


def test_shared_cells_reach_to_where_the_paths_part(space: SpaceConfig) -> None:
    positions = [(layer, stride) for layer in range(8) for stride in space.strides_at(layer)]
    choices = GridChoices(
        ends=(32, 16),
        downs=((2, 5), (2,)),
        operators=dict.fromkeys(positions, "conv"),
        widths=dict.fromkeys(positions, 1.0),
    )
    assert is_derivable(space, choices)
    assert build_architecture(space, choices, architecture_set="student").shared_cells == 5
    shorter = replace(choices, operators={**choices.operators, (0, 8): "skip"})
    assert build_architecture(space, shorter, architecture_set="student").shared_cells == 4
    apart = replace(choices, downs=((1, 3), (5,)))
    assert build_architecture(space, apart, architecture_set="student").shared_cells == 1


def test_choices_that_no_derivation_keeps(space: SpaceConfig) -> None:
    choices = random_choices(space, "teacher", random.Random(0))
    down = (choices.downs[0][0], 8)
    assert is_derivable(space, choices)
    assert not is_derivable(space, replace(choices, operators={**choices.operators, down: "skip"}))
    all_skips = dict.fromkeys(choices.operators, "skip")
    assert not is_derivable(space, replace(choices, operators=all_skips))


def test_branches_that_parted_do_not_meet_again(space: SpaceConfig) -> None:
    ways = down_choices(space, (32, 16))
    assert ((1, 4), (1,)) in ways and ((1, 4), (4,)) in ways and ((1, 4), (6,)) in ways
    assert ((1, 4), (3,)) not in ways and ((3, 5), (1,)) not in ways
    assert len(down_choices(space, (32, 8))) == len({way[0] for way in ways})


def test_a_space_without_room_for_two_downs_is_refused() -> None:
    with pytest.raises(ValueError, match="space.layers 3 is too few"):
        reachable_pairs(SpaceConfig(layers=3))
