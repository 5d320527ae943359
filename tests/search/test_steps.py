from collections.abc import Mapping

import pytest
import torch
from lightning_fabric import Fabric

from dataset_tools.dataset import LabeledImage
from fasterseg.networks import SpaceConfig
from search.config import ArchitectureConfig, SearchConfig
from search.parameters import ArchitectureProbabilities
from search.steps import SEARCH_PASSES, ArchitectureStep, WeightsStep
from search.supernet import Pass, Supernet
from search.training import SupernetLoss

FABRIC = Fabric(accelerator="cpu", devices=1)
PASSES = (Pass("student", "max"), Pass("student", "min"))


@pytest.fixture
def supernet(space: SpaceConfig) -> Supernet:
    torch.manual_seed(0)
    return Supernet(space, 3).train()


@pytest.fixture
def batch() -> LabeledImage:
    torch.manual_seed(1)
    return LabeledImage(torch.randn(2, 3, 64, 96), torch.randint(3, (2, 64, 96)), ["", ""])


def weights_step(supernet: Supernet, config: SearchConfig, draws: int = 0) -> WeightsStep:
    loss = SupernetLoss(config, ignore_index=255, fabric=FABRIC)
    return WeightsStep(supernet, config, loss=loss, fabric=FABRIC, draws=draws)


def architecture_step(supernet: Supernet, config: SearchConfig) -> ArchitectureStep:
    def latency_term(probabilities: ArchitectureProbabilities) -> torch.Tensor:
        return torch.stack([rows.square().sum() for rows in probabilities.widths.values()]).sum().double()

    loss = SupernetLoss(config, ignore_index=255, fabric=FABRIC)
    return ArchitectureStep(supernet, config, loss=loss, latency_term=latency_term, fabric=FABRIC)


def copies(parameters: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in parameters.items()}


def test_a_weights_step_descends_and_leaves_the_architecture_alone(supernet: Supernet, batch: LabeledImage) -> None:
    step = weights_step(supernet, SearchConfig(lr=0.02))
    before = copies(dict(supernet.architectures.named_parameters()))
    losses = [torch.stack(list(step.run(batch, passes=PASSES).values())).sum() for _ in range(5)]
    assert losses[-1] < losses[0]
    assert all(torch.equal(before[name], each) for name, each in supernet.architectures.named_parameters())
    assert all(each.grad is None for each in supernet.architecture_parameters())
    assert all(each.requires_grad for each in supernet.parameters())


def test_gradients_of_one_step_do_not_reach_the_next(supernet: Supernet, batch: LabeledImage) -> None:
    """Though the memory of the cells' gradients is kept."""
    step = weights_step(supernet.double(), SearchConfig())
    batch = batch._replace(image=batch.image.double())
    step.gradients(batch, passes=PASSES)
    first = {name: each.grad.clone() for name, each in supernet.named_parameters() if each.grad is not None}
    memory = supernet.cell(3, 16).keep.operators[1].conv1.weight.grad.data_ptr()
    step.gradients(batch, passes=PASSES)
    assert supernet.cell(3, 16).keep.operators[1].conv1.weight.grad.data_ptr() == memory
    for name, each in supernet.named_parameters():
        if name in first:
            torch.testing.assert_close(each.grad, first[name], rtol=1e-4, atol=1e-5, msg=name)


def test_weights_that_a_step_did_not_reach_stay(supernet: Supernet, batch: LabeledImage) -> None:
    step = weights_step(supernet, SearchConfig(lr=0.02))
    before = copies(dict(supernet.parts["teacher"].named_parameters()))
    for _ in range(2):
        step.run(batch, passes=PASSES)
    assert all(torch.equal(before[name], each) for name, each in supernet.parts["teacher"].named_parameters())


def test_the_gradient_is_clipped(supernet: Supernet, batch: LabeledImage) -> None:
    step = weights_step(supernet, SearchConfig(grad_clip=0.01))
    step.run(batch, passes=PASSES)
    norms = [each.grad.norm() for each in supernet.weights() if each.grad is not None]
    assert float(torch.stack(norms).norm()) == pytest.approx(0.01, rel=1e-3)


def test_an_architecture_step_moves_nothing_else(supernet: Supernet, batch: LabeledImage) -> None:
    step = architecture_step(supernet, SearchConfig())
    before = copies(dict(supernet.named_parameters()))
    figures = step.run(batch)
    assert figures.keys() == {"loss", "latency"}
    moved = {name for name, each in supernet.named_parameters() if not torch.equal(before[name], each)}
    assert moved and all(name.startswith("architectures.") for name in moved)
    assert any("width_logits" in name for name in moved)
    assert all(each.grad is None for each in supernet.parameters())


def test_passes_can_be_the_sampled_ones_alone(supernet: Supernet) -> None:
    config = SearchConfig(architecture=ArchitectureConfig(passes="sampled"))
    assert architecture_step(supernet, config).passes == [one for one in SEARCH_PASSES if one.width_mode == "sampled"]
    assert architecture_step(supernet, SearchConfig()).passes == list(SEARCH_PASSES)


def test_a_drawn_weights_step_leaves_the_operators_alone_that_it_did_not_draw(
    supernet: Supernet, batch: LabeledImage
) -> None:
    config = SearchConfig(relaxation="sampled", lr=0.02)
    step = weights_step(supernet, config, draws=config.draws)
    step.run(batch, passes=PASSES)
    before = copies(dict(supernet.cells.named_parameters()))
    step.run(batch, passes=PASSES[:1])  # one pass, one operator a mixture
    for mixed in (cell.keep for cell in supernet.cells.values()):
        (drawn,) = mixed.active
        reached = [any(each.grad is not None for each in operator.parameters()) for operator in mixed.operators]
        assert reached == [index == drawn for index in range(len(mixed.operators))]
    still = [name for name, each in supernet.cells.named_parameters() if torch.equal(before[name], each)]
    assert len(still) > len(before) / 2
