import zlib

import pytest
import torch
from lightning_fabric import Fabric

from benchmarks.convolutions import ConvolutionCount
from benchmarks.supernet_figures import relative_differences
from benchmarks.supernet_sides import FastSide, ReferenceSide, Workload, make_batch
from fasterseg.networks import OperatorSpec, SpaceConfig
from fasterseg.networks.space import BRANCH_PAIRS
from search.config import SearchConfig
from search.expected_latency import ExpectedLatency, latency_regularizer
from search.latency_costs import LatticeProblem
from search.parameters import ArchitectureParameters
from search.reference import ReferenceLatency, ReferenceSupernet
from search.steps import SEARCH_PASSES
from search.supernet import Supernet

# widths that are no divisors of each other, and enough layers that every kind of cell has two parents
SPACE = SpaceConfig(layers=5, base_channels=4, widths=(0.5, 0.75, 1.0), student_width=0.5)


@pytest.fixture
def sides() -> tuple[FastSide, ReferenceSide]:
    """Undecided about nothing: architecture parameters far from equal."""
    torch.manual_seed(0)
    crop = (96, 160)
    work = Workload(
        SPACE,
        SearchConfig(crop_size_px=crop, batch_size=2),
        make_batch(crop, 2),
        Fabric(accelerator="cpu", devices=1),
    )
    fast = FastSide(work)
    with torch.no_grad():
        for rows in fast.supernet.architecture_parameters():
            rows.normal_()
    return fast, ReferenceSide(work, fast.supernet.state_dict())


@pytest.fixture
def exact_sides(sides: tuple[FastSide, ReferenceSide]) -> tuple[FastSide, ReferenceSide]:
    """In float64, where no rounding decides about a ReLU."""
    for side in sides:
        side.supernet.double()
        side.work = side.work._replace(batch=side.work.batch._replace(image=side.work.batch.image.double()))
    for optimizer in (sides[0].weights.optimizer, sides[1].sgd):
        for state in optimizer.state.values():
            state["momentum_buffer"] = state["momentum_buffer"].double()
    return sides


def test_losses_gradients_and_running_statistics_are_those_of_the_plain_step(
    exact_sides: tuple[FastSide, ReferenceSide],
) -> None:
    """Of the architecture's step with the latency term, the weights' step and a pretraining step."""
    differences = relative_differences(*exact_sides)
    assert len(differences) == 7
    # the losses themselves are computed in float32
    assert {name: value for name, value in differences.items() if value > 1e-5} == {}


def test_no_parameter_is_off_by_itself(exact_sides: tuple[FastSide, ReferenceSide]) -> None:
    """Small gradients, which the norm over all of them would not show."""
    for side in exact_sides:
        torch.manual_seed(1)
        side.weights_gradients(SEARCH_PASSES)
    fast, reference = (dict(side.supernet.named_parameters()) for side in exact_sides)
    norms = [each.grad.norm() for each in reference.values() if each.grad is not None]
    floor = 1e-7 * float(torch.stack(norms).norm())
    for name, weight in fast.items():
        if not name.startswith("architectures."):
            pair = (weight, reference[name])
            ours, theirs = (torch.zeros_like(each) if each.grad is None else each.grad for each in pair)
            assert (ours - theirs).norm() <= 1e-5 * theirs.norm() + floor, name


def test_steps_leave_the_same_parameters(exact_sides: tuple[FastSide, ReferenceSide]) -> None:
    before = parameters_of(exact_sides[0])
    for _ in range(2):
        for side in exact_sides:
            torch.manual_seed(2)
            side.architecture_gradients()
            side.move_architecture()
            side.weights_gradients(SEARCH_PASSES)
            side.move_weights()
    fast, reference = (parameters_of(side) for side in exact_sides)
    assert fast.keys() == reference.keys()
    for name, value in reference.items():
        assert (fast[name] - value).norm() <= 1e-6 * (value - before[name]).norm(), name


def parameters_of(side: FastSide | ReferenceSide) -> dict[str, torch.Tensor]:
    """Copies of the architecture's, the sets' own and the cells' parameters, each as one vector."""
    groups: dict[str, list[torch.Tensor]] = {}
    for name, each in side.supernet.named_parameters():
        groups.setdefault(name.partition(".")[0], []).append(each.detach().flatten())
    return {name: torch.cat(tensors) for name, tensors in groups.items()}


@pytest.mark.usefixtures("one_thread")  # `ConvolutionCount` does not see what other threads do
def test_the_architecture_step_computes_no_gradient_of_weights(sides: tuple[FastSide, ReferenceSide]) -> None:
    fast, reference = sides
    with ConvolutionCount() as count:
        fast.architecture_gradients()
    with ConvolutionCount() as plain:
        reference.architecture_gradients()
    assert all(weight.grad is None for weight in fast.supernet.weights())
    assert count.flops < 0.75 * plain.flops


@pytest.mark.usefixtures("one_thread")  # `ConvolutionCount` does not see what other threads do
def test_four_search_passes_make_as_many_convolutions_as_published() -> None:
    torch.manual_seed(0)
    space = SpaceConfig(layers=16, base_channels=1, widths=(1.0,), student_width=1.0)
    image = torch.randn(2, 3, 64, 64)
    calls = {}
    for kind in (Supernet, ReferenceSupernet):
        supernet = kind(space, 2)
        with ConvolutionCount() as count, torch.no_grad():
            for one in SEARCH_PASSES:
                supernet(image, one.architecture_set, one.width_mode)
        calls[kind] = count.calls
    assert calls[ReferenceSupernet] == 3444
    assert calls[Supernet] < 0.7 * 3444


def test_latency_summed_up_by_specifications_is_the_programme(space: SpaceConfig) -> None:
    problem = LatticeProblem(space, "student", 3, (64, 128))
    parameters = [ArchitectureParameters(space, "student") for _ in range(2)]
    torch.manual_seed(3)
    with torch.no_grad():
        for first, second in zip(*(each.parameters() for each in parameters), strict=True):
            second.copy_(first.normal_())

    def entry_ms(spec: OperatorSpec) -> float:
        return 0.1 + zlib.crc32(spec.key.encode()) % 1000 / 500

    expected = ExpectedLatency(problem, entry_ms=entry_ms, pairs=BRANCH_PAIRS)
    terms = [
        latency_regularizer(expected, parameters[0].probabilities(), "decoupled"),
        ReferenceLatency(problem, entry_ms=entry_ms, pairs=BRANCH_PAIRS).decoupled(parameters[1].probabilities()),
    ]
    assert terms[0].item() == pytest.approx(terms[1].item(), rel=1e-5)
    for term in terms:
        torch.autograd.backward(term)
    for first, second in zip(*(each.parameters() for each in parameters), strict=True):
        assert first.grad is not None and second.grad is not None
        torch.testing.assert_close(first.grad, second.grad, rtol=1e-4, atol=1e-6)
