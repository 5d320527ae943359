import pytest
import torch

from fasterseg.networks import SpaceConfig
from fasterseg.networks.slimmable import SlimmableLayers
from fasterseg.networks.space import STRIDES
from search.cells import CellInput, MixedOperator
from search.parameters import ArchitectureParameters
from search.relaxation import DrawnMixture, Mixture
from search.supernet import Supernet

LAYER, STRIDE, KEEP = 3, 16, 0


@pytest.fixture
def parameters(space: SpaceConfig) -> ArchitectureParameters:
    torch.manual_seed(0)
    parameters = ArchitectureParameters(space, "student")
    with torch.no_grad():
        for rows in parameters.parameters():
            rows.normal_()
    return parameters


def cell_gradient(parameters: ArchitectureParameters, output: torch.Tensor, seed: int = 5) -> torch.Tensor:
    """The gradient of a fixed linear function of the output in the operators' and the parents' logits."""
    generator = torch.Generator().manual_seed(seed)
    direction = torch.randn(output.shape, generator=generator)
    groups = [parameters.operator_logits[str(STRIDE)], parameters.parent_logits[str(STRIDE)]]
    gradients = torch.autograd.grad((output * direction).sum(), groups)
    return torch.cat([each.flatten() for each in gradients])


@pytest.mark.parametrize("draws", [1, 2])
def test_over_the_draws_output_and_gradient_are_the_full_mixtures(
    space: SpaceConfig, parameters: ArchitectureParameters, draws: int
) -> None:
    """Given the maps that enter, as the docstring says."""
    layers = SlimmableLayers(space.widths, batch_parts=2)
    mixed = MixedOperator(8, 8, stride=1, operators=space.operators, layers=layers).eval()
    maps = [torch.randn(1, 8, 4, 4) for _ in range(2)]
    full = Mixture(parameters).weights(LAYER, STRIDE, KEEP, gates=())
    assert full.operators == mixed.active
    output = mixed(CellInput(maps), full.weights)
    expected = torch.cat([output.detach().flatten(), cell_gradient(parameters, output)])

    found = []
    for _ in range(600):
        own = DrawnMixture(parameters, draws).weights(LAYER, STRIDE, KEEP, gates=())
        assert len(own.operators) <= draws
        mixed.active = own.operators
        output = mixed(CellInput(maps), own.weights)
        found.append(torch.cat([output.detach().flatten(), cell_gradient(parameters, output)]))
    draw = torch.stack(found)
    error = (draw.mean(dim=0) - expected).abs()
    deviation = draw.std(dim=0) / len(found) ** 0.5
    assert float(draw.std(dim=0).max()) > 0.1, "the draws have to differ, or this shows nothing"
    assert bool((error <= 5 * deviation + 1e-5).all())


def test_a_draw_has_the_value_one_and_the_gradient_of_its_log_probability(parameters: ArchitectureParameters) -> None:
    own = DrawnMixture(parameters, 1).weights(0, 8, KEEP, gates=())
    assert own.weights.tolist() == [[1.0]]
    (gradient,) = torch.autograd.grad(own.weights.sum(), parameters.operator_logits["8"])
    probability = parameters.operator_logits["8"][0].softmax(dim=0).detach()
    one_hot = torch.nn.functional.one_hot(torch.tensor(own.operators[0]), len(probability))
    torch.testing.assert_close(gradient[0], one_hot - probability)


def test_draws_follow_the_probabilities_and_outputs_draw_apart(parameters: ArchitectureParameters) -> None:
    drawn = [DrawnMixture(parameters, 1) for _ in range(1500)]
    for stride in STRIDES:
        keep, down = (
            torch.tensor([one.weights(4, stride, place, gates=()).operators[0] for one in drawn]) for place in (0, 1)
        )
        probability = Mixture(parameters).weights(4, stride, 0, gates=()).weights.detach()
        probability = probability.sum(dim=0)  # the parents' probabilities sum to one
        shares = torch.bincount(keep, minlength=probability.numel()) / len(drawn)
        torch.testing.assert_close(shares, probability, atol=0.06, rtol=0)
        assert not torch.equal(keep, down)


def test_a_drawn_pass_reaches_every_operator_logit_row_of_its_set(space: SpaceConfig) -> None:
    torch.manual_seed(0)
    supernet = Supernet(space, 3)
    heads = supernet(torch.randn(2, 3, 64, 96), "student", "sampled", draws=1)
    sum(logits.square().mean() for logits in heads).backward()
    student = supernet.architecture("student")
    assert all(rows.grad is not None and bool((rows.grad.abs().sum(dim=1) > 0).all()) for rows in student.parameters())
    supernet(torch.randn(2, 3, 64, 96), "student", "max")
    assert all(cell.keep.active == tuple(range(len(space.operators))) for cell in supernet.cells.values())
