"""The expected latency against the enumeration of every choice of a small space; shares nothing with the programme."""

import functools
import itertools
import math
import zlib
from typing import Any

import pytest
import torch

from fasterseg.networks import OperatorSpec
from fasterseg.networks.architecture import Architecture, CellChoice
from fasterseg.networks.derived import derived_specs
from fasterseg.networks.space import ArchitectureSet, Branches, SpaceConfig
from latency.correction import Correction
from search.expected_latency import ExpectedLatency, RegularizerForm, latency_regularizer
from search.latency_costs import LatticeProblem
from search.parameters import ArchitectureParameters, ArchitectureProbabilities

SIZE = (64, 128)
CLASSES = 3
PAIRS = ((32, 16), (32, 8))
# F = 7 makes the stem's channels (37) differ from those of a cell at the same width (40)
SMALL = SpaceConfig(
    layers=4,
    base_channels=7,
    widths=(0.5, 1.0),
    operators=("skip", "conv_2x"),
    student_width=0.5,
)


@functools.cache
def entry_ms(spec: OperatorSpec) -> float:
    return 0.1 + zlib.crc32(spec.key.encode()) % 1000 / 500


def random_probabilities(
    space: SpaceConfig, architecture_set: ArchitectureSet, seed: int = 0
) -> ArchitectureProbabilities:
    """Random rows in float64, drawn by the names and shapes of the parameters."""
    generator = torch.Generator().manual_seed(seed)
    groups = ArchitectureParameters(space, architecture_set).probabilities()
    return ArchitectureProbabilities(
        *(
            {
                stride: torch.randn(rows.shape, generator=generator, dtype=torch.float64).softmax(1)
                for stride, rows in group.items()
            }
            for group in groups
        )
    )


def branch_of(end: int, operators: Any, parents: Any, widths: Any, space: SpaceConfig, head_width: Any) -> Any:
    """The cells of one branch of the network that a full set of choices gives."""
    path = [end]
    for layer in range(space.layers - 1, 0, -1):
        path.insert(0, path[0] // 2 if parents[layer, path[0]] == "down" else path[0])
    cells = []
    for layer, stride in enumerate(path):
        operator = operators[layer, stride]
        if layer == space.layers - 1:
            cells.append((layer, CellChoice(operator, scale=stride, stride=1, width=head_width)))
        elif operator != "skip" or path[layer + 1] != stride:
            following = path[layer + 1]
            width = widths[layer + 1, following]
            cells.append((layer, CellChoice(operator, scale=stride, stride=following // stride, width=width)))
    return path, cells


def latency_of(
    ends: Any, operators: Any, parents: Any, widths: Any, space: SpaceConfig, architecture_set: ArchitectureSet
) -> list[float]:
    head_width = space.end_width(architecture_set)
    (path_a, cells_a), (path_b, cells_b) = (
        branch_of(end, operators, parents, widths, space, head_width) for end in ends
    )
    shared_layers = max(layer for layer in range(space.layers) if path_a[: layer + 1] == path_b[: layer + 1])
    shared = sum(layer < shared_layers for layer, _ in cells_a)
    branches = (tuple(cell for _, cell in cells_a), tuple(cell for _, cell in cells_b))
    return network_entries(space.base_channels, head_width, branches, shared)


@functools.cache
def network_entries(base_channels: Any, head_width: Any, branches: str, shared_cells: Any) -> list[float]:
    architecture = Architecture(
        base_channels=base_channels,
        stem_width=head_width,
        head_width=head_width,
        branches=branches,
        shared_cells=shared_cells,
    )
    return [entry_ms(spec) for spec in derived_specs(architecture, CLASSES, input_size=SIZE)]


def enumerate_latency(
    space: SpaceConfig, architecture_set: ArchitectureSet, probabilities: Any, correction: Any, pairs: Any = PAIRS
) -> float:
    """The mean over pairs of the sum over all joint choices of probability times latency."""
    first = {8: 0, 16: 1, 32: 2}
    widths = space.set_widths(architecture_set)
    places = [(layer, stride) for layer in range(space.layers) for stride in (8, 16, 32) if layer >= first[stride]]
    variables = []  # (kind, place, [(choice, probability)])
    for layer, stride in places:
        row = probabilities.operators[stride][layer - first[stride]].tolist()
        variables.append(("operator", (layer, stride), list(zip(space.operators, row, strict=True))))
        if layer:
            row = probabilities.widths[stride][layer - max(1, first[stride])].tolist()
            variables.append(("width", (layer, stride), list(zip(widths, row, strict=True))))
            options = [("keep", 1.0)] if stride == 8 else [("down", 1.0)]
            if stride > 8 and layer > first[stride]:
                row = probabilities.parents[stride][layer - first[stride] - 1].tolist()
                options = list(zip(("down", "keep"), row, strict=True))
            variables.append(("parent", (layer, stride), options))
    total = 0.0
    for pair in pairs:
        # only the choices that matter for the two paths are multiplied out, path by path
        parents_of = [variable for variable in variables if variable[0] == "parent"]
        for chosen in itertools.product(*(options for _, _, options in parents_of)):
            parents = {place: choice for (_, place, _), (choice, _) in zip(parents_of, chosen, strict=True)}
            path_probability = math.prod(probability for _, probability in chosen)
            visited = visited_places(pair, parents, space.layers)
            rest = [v for v in variables if v[0] != "parent" and v[1] in visited]
            for other in itertools.product(*(options for _, _, options in rest)):
                kinds = {"operator": {}, "width": {}}
                for (kind, place, _), (choice, _) in zip(rest, other, strict=True):
                    kinds[kind][place] = choice
                probability = path_probability * math.prod(p for _, p in other)
                entries = latency_of(pair, kinds["operator"], parents, kinds["width"], space, architecture_set)
                total += probability * (
                    correction.slope * sum(entries) + correction.per_operator_ms * len(entries) + correction.constant_ms
                )
    return total / len(pairs)


def visited_places(pair: Branches, parents: Any, layers: int) -> set[tuple[int, int]]:
    places = set()
    for end in pair:
        stride = end
        for layer in range(layers - 1, -1, -1):
            places.add((layer, stride))
            if layer and parents[layer, stride] == "down":
                stride //= 2
    return places


@pytest.mark.parametrize(
    ("architecture_set", "pairs"),
    [("student", PAIRS[:1]), ("student", PAIRS[1:]), ("teacher", PAIRS)],
)
def test_expectation_equals_enumeration(architecture_set: ArchitectureSet, pairs: Any) -> None:
    correction = Correction(1.3, 0.05, 0.7)
    probabilities = random_probabilities(SMALL, architecture_set)
    problem = LatticeProblem(SMALL, architecture_set, CLASSES, SIZE)
    expected = ExpectedLatency(problem, entry_ms=entry_ms, pairs=pairs, correction=correction)
    enumerated = enumerate_latency(SMALL, architecture_set, probabilities, correction, pairs)
    assert expected(probabilities).item() == pytest.approx(enumerated, rel=1e-9)


def test_expectation_equals_enumeration_with_three_operators_and_shallow_space() -> None:
    space = SpaceConfig(
        layers=3,
        base_channels=8,
        widths=(0.5, 0.75, 1.0),
        operators=("skip", "conv", "conv_downup"),
        student_width=0.5,
    )
    probabilities = random_probabilities(space, "student", seed=1)
    problem = LatticeProblem(space, "student", CLASSES, SIZE)
    expected = ExpectedLatency(problem, entry_ms=entry_ms, pairs=PAIRS)
    enumerated = enumerate_latency(space, "student", probabilities, Correction())
    assert expected(probabilities).item() == pytest.approx(enumerated, rel=1e-9)


@pytest.mark.parametrize("form", ["exact", "decoupled"])
def test_gradient(form: RegularizerForm) -> None:
    problem = LatticeProblem(SMALL, "student", CLASSES, SIZE)
    expected = ExpectedLatency(problem, entry_ms=entry_ms, pairs=PAIRS)
    template = random_probabilities(SMALL, "student")
    shapes = [[(stride, rows.shape) for stride, rows in group.items()] for group in template]
    leaves = [rows.log().requires_grad_() for group in template for rows in group.values()]

    def regularizer(*flat: Any) -> torch.Tensor:
        values = iter(flat)
        groups = ({stride: next(values).softmax(1) for stride, _ in group} for group in shapes)
        return latency_regularizer(expected, ArchitectureProbabilities(*groups), form)

    assert torch.autograd.gradcheck(regularizer, leaves)


def test_float32_parameters_get_gradients() -> None:
    space = SpaceConfig(layers=8, base_channels=8, widths=(0.5, 1.0), student_width=0.5)
    parameters = ArchitectureParameters(space, "student")
    problem = LatticeProblem(space, "student", CLASSES, SIZE)
    expected = ExpectedLatency(problem, entry_ms=entry_ms, pairs=PAIRS)
    expected(parameters.probabilities()).backward()
    for name, parameter in parameters.named_parameters():
        assert parameter.grad.dtype == torch.float32, name
        assert parameter.grad.abs().sum() > 0, name


def test_decoupled_weights_its_three_terms() -> None:
    probabilities = random_probabilities(SMALL, "student")
    problem = LatticeProblem(SMALL, "student", CLASSES, SIZE)
    expected = ExpectedLatency(problem, entry_ms=entry_ms, pairs=PAIRS)
    uniform = ArchitectureProbabilities(
        {s: torch.full_like(rows, 0.5) for s, rows in probabilities.operators.items()},
        {s: torch.full_like(rows, 0.5) for s, rows in probabilities.parents.items()},
        {s: torch.tensor([0.0, 1.0], dtype=torch.float64).expand_as(rows) for s, rows in probabilities.widths.items()},
    )
    by_hand = (
        expected(uniform._replace(operators=probabilities.operators)) / 500
        + expected(uniform._replace(parents=probabilities.parents)) * 497 / 500
        + expected(uniform._replace(widths=probabilities.widths)) * 2 / 500
    )
    decoupled = latency_regularizer(expected, probabilities, "decoupled")
    assert decoupled.item() == pytest.approx(by_hand.item(), rel=1e-12)


def test_a_missing_entry_is_the_tables_error() -> None:
    def lookup(spec: OperatorSpec) -> float:
        if spec.kind == "head":
            raise ValueError(f"no entry for {spec.key}")
        return 1.0

    problem = LatticeProblem(SMALL, "student", CLASSES, SIZE)
    with pytest.raises(ValueError, match="no entry for head/"):
        ExpectedLatency(problem, entry_ms=lookup, pairs=PAIRS)
