import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fasterseg.networks.architecture import CellChoice
from fasterseg.networks.derivation import (
    ArchitectureLogits,
    common_cells,
    derive_architecture,
    derive_branches,
    keeps_rules,
    minimum_cells,
    most_probable_path,
    path_of,
    stretches,
)
from fasterseg.networks.space import STRIDES, SpaceConfig, first_layer

CASES = json.loads((Path(__file__).parents[2] / "golden" / "decodes.json").read_text())


def golden_logits(case: dict[str, Any]) -> ArchitectureLogits:
    """The recorded cases' parameters, in the order that golden/README.md gives."""
    layers, random = case["layers"], np.random.RandomState(case["seed"])

    def draw(*shape: Any) -> Any:
        return random.standard_normal(shape).astype(np.float32)

    operators = {stride: draw(layers - index, 5) for index, stride in enumerate(STRIDES)}
    parents = {16: draw(layers - 2, 2), 32: draw(layers - 3, 2)}
    widths = {8: draw(layers - 1, 5), 16: draw(layers - 1, 5), 32: draw(layers - 2, 5)}
    for scores in operators.values():
        scores[:, 0] += np.float32(case["skip_bias"])
    return ArchitectureLogits(operators, parents, widths)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"seed{case['seed']}")
def test_published_rule_decodes_as_the_released_program(case: dict[str, Any]) -> None:
    space = SpaceConfig(layers=case["layers"])
    branches = derive_branches(golden_logits(case), space, architecture_set="student", path_rule="published")
    for index, end in enumerate(STRIDES):
        cells = branches[end]
        assert [space.operators.index(cell.operator) for cell in cells] == case["operators"][index]
        assert [cell.scale for cell in cells] == case["scales"][index]
        assert [round(cell.width * 12) for cell in cells[:-1]] == case["widths_of_12"][index]


def random_logits(space: SpaceConfig, seed: int, *, widths: Any = None, skip_bias: Any = 0.0) -> ArchitectureLogits:
    random = np.random.default_rng(seed)
    operators = {s: random.standard_normal((space.layers - first_layer(s), len(space.operators))) for s in STRIDES}
    for scores in operators.values():
        scores[:, 0] += skip_bias
    return ArchitectureLogits(
        operators,
        {16: random.standard_normal((space.layers - 2, 2)), 32: random.standard_normal((space.layers - 3, 2))},
        {
            s: random.standard_normal((space.layers - max(1, first_layer(s)), widths or len(space.widths)))
            for s in STRIDES
        },
    )


def paths_to(end: int, layers: int) -> list[tuple[int, ...]]:
    """Every way through the lattice that ends at a stride, by brute force."""
    ways = [(8,)]
    for layer in range(1, layers):
        ways = [(*way, stride) for way in ways for stride in (way[-1], way[-1] * 2) if stride <= 32]
        assert all(way[layer] in (8, 16, 32) for way in ways)
    return [way for way in ways if way[-1] == end]


@pytest.mark.parametrize("seed", range(5))
def test_most_probable_path_is_the_best_of_all(seed: int) -> None:
    layers = 7
    logits = random_logits(SpaceConfig(layers=layers), seed)

    def probability(way: Any) -> float:
        product = 1.0
        for layer in range(1, layers):
            stride, row = way[layer], layer - (0, 1, 2)[STRIDES.index(way[layer])] - 1
            if stride == 8 or row < 0:
                continue
            pair = np.exp(logits.parents[stride][row])
            product *= pair[0 if way[layer - 1] < stride else 1] / pair.sum()
        return product

    for end in STRIDES:
        best = max(paths_to(end, layers), key=probability)
        assert most_probable_path(logits.parents, end=end, layers=layers) == best


def test_teacher_has_no_skips_and_full_width() -> None:
    space = SpaceConfig(layers=9)
    logits = random_logits(space, 3, widths=1, skip_bias=5.0)
    architecture = derive_architecture(logits, space, architecture_set="teacher", ends=(32, 16))
    assert [len(branch) for branch in architecture.branches] == [9, 9]
    assert {cell.operator for branch in architecture.branches for cell in branch}.isdisjoint({"skip"})
    assert {cell.width for branch in architecture.branches for cell in branch} == {1.0}


def test_skips_leave_layers_out_but_not_too_many() -> None:
    space = SpaceConfig(layers=16)
    logits = random_logits(space, 0, skip_bias=20.0)
    architecture = derive_architecture(logits, space, architecture_set="student", ends=(32, 8))
    deep, shallow = architecture.branches
    assert len(shallow) == 5
    # at least 5 + 4; a skip that the stretch rule turned into an operator still takes one of the places to leave out
    assert 9 <= len(deep) <= 11
    scales = {cell.scale for cell in architecture.branches[0] if cell.stride == 1}
    assert {16, 32} <= scales, "something must stay between two downs, and after the last one"


def test_deriving_leaves_the_parameters_alone() -> None:
    space = SpaceConfig(layers=8)
    logits = random_logits(space, 1, skip_bias=3.0)
    before = {stride: scores.copy() for stride, scores in logits.operators.items()}
    derive_branches(logits, space, architecture_set="student", path_rule="published")
    assert all((before[stride] == logits.operators[stride]).all() for stride in STRIDES)


def test_common_cells_stop_before_the_last_one() -> None:
    cell = CellChoice("conv", scale=8, stride=1, width=0.5)
    other = CellChoice("conv_2x", scale=8, stride=1, width=0.5)
    assert common_cells([(cell, cell, cell), (cell, cell, cell)]) == 2
    assert common_cells([(cell, other, cell), (cell, cell, cell)]) == 1
    assert common_cells([(cell, cell)]) == 0


def test_architecture_round_trips_and_shares_the_common_prefix() -> None:
    space = SpaceConfig(layers=8)
    architecture = derive_architecture(random_logits(space, 4), space, architecture_set="student", ends=(32, 16))
    assert type(architecture).from_dict(architecture.to_dict()) == architecture
    shared = architecture.shared_cells
    assert architecture.branches[0][:shared] == architecture.branches[1][:shared]


@pytest.mark.parametrize(("layers", "end", "expected"), [(16, 8, 5), (16, 16, 7), (16, 32, 9), (8, 32, 7), (4, 32, 4)])
def test_the_minimum_of_cells(layers: int, end: int, expected: int) -> None:
    assert minimum_cells(layers, end) == expected


def test_the_stretches_of_a_path() -> None:
    assert path_of((2, 5), 8) == (8, 8, 8, 16, 16, 16, 32, 32)
    assert stretches(path_of((2, 5), 8)) == [range(3, 5), range(6, 8)]
    assert stretches(path_of((), 8)) == []


@pytest.mark.parametrize(
    ("skips", "kept"),
    [
        ((), True),
        ((0, 1), True),  # before the first down
        ((2,), False),  # the first down
        ((3,), True),
        ((3, 4), False),  # all between the downs
        ((6, 7, 8, 9), True),
        ((0, 6, 7, 8, 9), False),  # 7 cells, where 12 layers with two downs have to keep 8
    ],
)
def test_the_rules_of_a_branch(skips: tuple[int, ...], kept: bool) -> None:
    operators = ["skip" if layer in skips else "conv" for layer in range(12)]
    assert keeps_rules(path_of((2, 5), 12), operators) is kept


def test_a_cell_stays_behind_the_last_down() -> None:
    operators = ["conv"] * 10 + ["skip", "skip"]
    assert not keeps_rules(path_of((2, 9), 12), operators)
    assert keeps_rules(path_of((2, 9), 12), [*operators[:-1], "conv"])
