"""Derives an `Architecture` from architecture parameters, by rules that every derived network fulfils; NumPy only.

There are two path rules. `most_probable`, the default, takes the most probable path on the supernet's lattice of layers
and output strides. `published` is the rule of the released program, needed to read its files; its three differences are
kept on purpose (see `published_path`). The search and the import of released files both use this module. Random
networks (`sampling`) fulfil the same rules.

Source: FasterSeg, section 3.2, and its released program.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fasterseg.networks.architecture import Architecture, CellChoice
from fasterseg.networks.operators import SKIP
from fasterseg.networks.space import STRIDES, ArchitectureSet, Branches, SpaceConfig, first_layer

PathRule = Literal["most_probable", "published"]
Scores = NDArray[np.floating]
Path = tuple[int, ...]

SKIP_INDEX = 0
FROM_DOWN, FROM_KEEP = 0, 1


def operator_row(layer: int, stride: int) -> int:
    """The row of `ArchitectureLogits.operators[stride]` that belongs to the cell at a layer."""
    return layer - first_layer(stride)


def parent_row(layer: int, stride: int) -> int:
    """The row of `ArchitectureLogits.parents[stride]` of the cell at a layer; a stride's first cell has one parent."""
    return layer - first_layer(stride) - 1


def width_row(layer: int, stride: int) -> int:
    """The row of `ArchitectureLogits.widths[stride]` that belongs to the input of the cell at a layer >= 1."""
    return layer - max(1, first_layer(stride))


@dataclass(frozen=True)
class ArchitectureLogits:
    """The values of one architecture set's parameters, before any softmax.

    Attributes:
        operators: alpha; (cells of the stride, operators) by output stride.
        parents: beta; (cells with two parents, 2) for strides 16 and 32, columns (down from half the stride, keep).
        widths: ratio; (maps that enter a cell of the stride, widths) by output stride.
    """

    operators: Mapping[int, Scores]
    parents: Mapping[int, Scores]
    widths: Mapping[int, Scores]


def softmax(scores: Scores) -> Scores:
    """Softmax over the last axis, in the precision of the scores."""
    exponentials = np.exp(scores - scores.max(axis=-1, keepdims=True))
    probabilities: Scores = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return probabilities


def derive_architecture(
    logits: ArchitectureLogits,
    space: SpaceConfig,
    *,
    architecture_set: ArchitectureSet,
    ends: Branches,
    path_rule: PathRule = "most_probable",
) -> Architecture:
    """The architecture that the parameters select.

    Args:
        logits: Parameters of one architecture set.
        space: The search space they belong to.
        architecture_set: The teacher derives without skips and at its own stem and head width.
        ends: Output strides at which the branches end, in the order of the network.
        path_rule: `most_probable`, or `published` for released files.

    Returns:
        The network of those branches; leading cells that they have in common are shared.
    """
    branches = derive_branches(logits, space, architecture_set=architecture_set, path_rule=path_rule)
    width = space.end_width(architecture_set)
    return assemble(space, [branches[end] for end in ends], end_width=width)


def path_of(downs: Sequence[int], layers: int) -> Path:
    """The output stride that each layer of a branch reads.

    Args:
        downs: The layers whose cell doubles the output stride.
        layers: Layers of the space.
    """
    return tuple(STRIDES[sum(down < layer for down in downs)] for layer in range(layers))


def minimum_cells(layers: int, end: int) -> int:
    """The smallest number of cells of a branch, skips left out: a third of the layers, and two for each down.

    Source: the released program's decoding (round(L / 3) + 2 · stride index of the end).
    """
    return min(layers, round(layers / 3) + 2 * STRIDES.index(end))


def stretches(path: Path) -> list[range]:
    """The layers after each down of a path, up to the next down or the end; none before the first down."""
    downs = [layer for layer in range(len(path) - 1) if path[layer + 1] > path[layer]]
    return [range(start + 1, stop) for start, stop in itertools.pairwise([*downs, len(path)])]


def keeps_rules(path: Path, operators: Sequence[str]) -> bool:
    """Whether the operators along a path fulfil the rules of a derived network.

    The branch has its minimum number of cells. No cell that goes down is a skip. Each stretch after a down has at least
    one cell that is not a skip. Before the first down, all cells may be skips.

    Args:
        path: The output stride that each layer reads.
        operators: Name of each layer's operator; a skip means that the layer is left out.
    """
    if sum(operator != SKIP for operator in operators) < minimum_cells(len(path), path[-1]):
        return False
    after_downs = stretches(path)
    if any(operators[stretch.start - 1] == SKIP for stretch in after_downs):
        return False
    return not any(stretch and all(operators[layer] == SKIP for layer in stretch) for stretch in after_downs)


def branch_cells(
    path: Path, operators: Sequence[str], map_widths: Mapping[int, float], *, end_width: float
) -> tuple[CellChoice, ...]:
    """The cells of a branch; a layer that is left out also drops its output's width.

    Args:
        path: The output stride that each layer reads.
        operators: Name of each layer's operator; a skip means that the layer is left out.
        map_widths: The width multiplier of the map that a layer >= 1 reads, by layer.
        end_width: The width multiplier of the branch's last map.
    """
    kept = [layer for layer, operator in enumerate(operators) if operator != SKIP]
    cells = []
    for layer in kept:
        stride, width = 1, end_width
        if layer != kept[-1]:
            stride, width = path[layer + 1] // path[layer], map_widths[layer + 1]
        cells.append(CellChoice(operators[layer], scale=path[layer], stride=stride, width=width))
    return tuple(cells)


def assemble(space: SpaceConfig, branches: list[tuple[CellChoice, ...]], *, end_width: float) -> Architecture:
    """The architecture of finished branches; the leading cells that they have in common are shared.

    The last cell of a branch is never shared.
    """
    return Architecture(
        base_channels=space.base_channels,
        stem_width=end_width,
        head_width=end_width,
        branches=tuple(branches),
        shared_cells=common_cells(branches),
    )


def common_cells(branches: list[tuple[CellChoice, ...]]) -> int:
    """How many leading cells all branches have in common; 0 for a single branch, never a branch's last cell."""
    shared = 0
    if len(branches) > 1:
        for cells in zip(*(branch[:-1] for branch in branches), strict=False):
            if len(set(cells)) > 1:
                break
            shared += 1
    return shared


def derive_branches(
    logits: ArchitectureLogits, space: SpaceConfig, *, architecture_set: ArchitectureSet, path_rule: PathRule
) -> dict[int, tuple[CellChoice, ...]]:
    """The cells of the three branches, by the output stride they end at.

    They are derived in ascending order over one copy of the operator scores: a decision about a skip that is made for
    one branch holds for the later ones.
    """
    operators = {stride: np.array(scores) for stride, scores in logits.operators.items()}
    parents = {stride: np.array(scores) for stride, scores in logits.parents.items()}
    if architecture_set == "teacher":
        for scores in operators.values():
            scores[:, SKIP_INDEX] = -np.inf
    branches = {}
    for end in STRIDES:
        if path_rule == "published":
            parents = {stride: softmax(scores) for stride, scores in parents.items()}
            path = published_path(parents, end=end, layers=space.layers)
        else:
            path = most_probable_path(parents, end=end, layers=space.layers)
        chosen = _choose_operators(operators, path, space.operators)
        map_widths = _choose_widths(logits.widths, path, space.set_widths(architecture_set))
        branches[end] = branch_cells(path, chosen, map_widths, end_width=space.end_width(architecture_set))
    return branches


def most_probable_path(parents: Mapping[int, Scores], *, end: int, layers: int) -> Path:
    """The output stride of each layer on the most probable path to the last layer's cell of stride `end`.

    Every cell chooses its parent independently, so this is a shortest path (Viterbi) over the lattice. Of two equally
    probable paths, the one that keeps its stride longer at the end wins.
    """
    log_probability = {
        stride: np.log(np.maximum(softmax(scores.astype(np.float64)), 1e-300)) for stride, scores in parents.items()
    }
    best: dict[int, tuple[float, Path]] = {STRIDES[0]: (0.0, (STRIDES[0],))}
    for layer in range(1, layers):
        reached = {STRIDES[0]: (best[STRIDES[0]][0], (*best[STRIDES[0]][1], STRIDES[0]))}
        for stride in STRIDES[1:]:
            if layer < first_layer(stride):
                continue
            keep, down = 0.0, 0.0
            if layer > first_layer(stride):
                row = log_probability[stride][parent_row(layer, stride)]
                keep, down = float(row[FROM_KEEP]), float(row[FROM_DOWN])
            options = [(best[stride // 2], down)] + ([(best[stride], keep)] if stride in best else [])
            scored = [(score + step, (*path, stride)) for (score, path), step in options]
            reached[stride] = max(reversed(scored), key=lambda option: option[0])
        best = reached
    return best[end][1]


def published_path(parents: Mapping[int, Scores], *, end: int, layers: int) -> Path:
    """The output stride of each layer by the released program's rule.

    It differs from the most probable path: stride 16's down is placed one layer before the one its parameter belongs
    to, a branch to stride 32 takes the best product of two downs that are at least two rows apart (downs after layers
    1 and 2 when there is no such pair), and the caller softmaxes the parameters once more for each branch.

    Args:
        parents: Parent scores after one softmax for each branch derived so far, this one included.
        end: Output stride of the branch's end.
        layers: Layers of the space.
    """
    downs: list[int] = []
    if end == STRIDES[1]:
        downs = [1 + int(parents[16][1:-1, FROM_DOWN].argmax())]
    elif end == STRIDES[2]:
        best_score, best_pair = 0.0, (0, 1)
        for deep in range(layers - 4):
            for shallow in range(1, deep - 1):
                score = parents[16][shallow, FROM_DOWN] * parents[32][deep, FROM_DOWN]
                if score > best_score:
                    best_score, best_pair = score, (shallow, deep)
        downs = [best_pair[0] + 1, best_pair[1] + 2]
    return path_of(downs, layers)


def _choose_operators(operators: Mapping[int, Scores], path: Path, names: Sequence[str]) -> list[str]:
    """The operator of each layer of a path; a skip is a layer that is left out.

    The score of a skip that must not be left out is set to -inf in `operators`, for this branch and later ones.
    """
    candidates = _prunable_skips(operators, path)
    _keep_one_in_each_stretch(operators, path, candidates)
    most_certain_first = sorted(candidates, key=lambda layer: candidates[layer], reverse=True)
    pruned = most_certain_first[: len(path) - minimum_cells(len(path), path[-1])]
    chosen = []
    for layer, stride in enumerate(path):
        scores = operators[stride][operator_row(layer, stride)]
        if layer not in pruned and int(scores.argmax()) == SKIP_INDEX:
            scores[SKIP_INDEX] = -np.inf
        chosen.append(names[int(scores.argmax())])
    return chosen


def _prunable_skips(operators: Mapping[int, Scores], path: Path) -> dict[int, float]:
    """The layers whose best operator is a skip that keeps the stride, with the skip's probability."""
    skips = {}
    for layer, stride in enumerate(path):
        scores = operators[stride][operator_row(layer, stride)]
        keeps_stride = layer + 1 == len(path) or path[layer + 1] == stride
        if keeps_stride and int(scores.argmax()) == SKIP_INDEX:
            skips[layer] = float(softmax(scores)[SKIP_INDEX])
    return skips


def _keep_one_in_each_stretch(operators: Mapping[int, Scores], path: Path, skips: Mapping[int, float]) -> None:
    """Turns the least certain skip of a stretch that is all skips into an operator."""
    for stretch in stretches(path):
        if stretch and all(layer in skips for layer in stretch):
            # of equally certain skips the last, as in the released program
            layer = min(reversed(stretch), key=lambda candidate: skips[candidate])
            operators[path[layer]][operator_row(layer, path[layer]), SKIP_INDEX] = -np.inf


def _choose_widths(widths: Mapping[int, Scores], path: Path, choices: Sequence[float]) -> dict[int, float]:
    """The width multiplier of the map that each layer of a path reads; the first reads the stem's."""
    return {
        layer: choices[int(widths[stride][width_row(layer, stride)].argmax())]
        for layer, stride in enumerate(path)
        if layer >= 1
    }
