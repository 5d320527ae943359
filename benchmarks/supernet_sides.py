"""The two sides of `benchmarks.supernet_step`: the search's own steps, and the plain formulation of the same.

Both start from the same weights, see the same images and draw the same widths, and each trains a supernet of its own.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import torch
from lightning_fabric import Fabric
from torch import nn

from dataset_tools.dataset import LabeledImage
from fasterseg.engine.optimization import clip_gradients
from fasterseg.networks.operator_specs import OperatorSpec
from fasterseg.networks.space import BRANCH_PAIRS, SpaceConfig
from search.config import SearchConfig
from search.expected_latency import ExpectedLatency, latency_regularizer
from search.latency_costs import LatticeProblem
from search.parameters import ArchitectureProbabilities
from search.reference import ReferenceLatency, ReferenceStep, ReferenceSupernet
from search.steps import SANDWICH, SEARCH_PASSES, ArchitectureStep, WeightsStep
from search.supernet import Pass, Supernet
from search.training import SupernetLoss, prepare_supernet, set_up, weights_optimizer

NUM_CLASSES, IGNORE_INDEX = 19, 255
LATENCY_WEIGHT = 0.01
PRETRAIN_PASSES = tuple(Pass("teacher", mode) for mode in SANDWICH)
# of the derived networks that the latency is of, not of the crops
INPUT_SIZE = (1024, 2048)


class Workload(NamedTuple):
    """What both sides run.

    Attributes:
        space: The search space.
        config: Settings of the search.
        batch: Images and labels.
        fabric: Device and precision.
    """

    space: SpaceConfig
    config: SearchConfig
    batch: LabeledImage
    fabric: Fabric


class Side(Protocol):
    """One way to do a step."""

    @property
    def supernet(self) -> nn.Module:
        """What it trains."""
        ...

    def architecture_gradients(self) -> torch.Tensor:
        """Computes the gradients of the architecture parameters; returns the loss with the latency term."""
        ...

    def weights_gradients(self, passes: Sequence[Pass]) -> torch.Tensor:
        """Computes the gradients of the weights; returns the loss, summed over the passes."""
        ...

    def move_architecture(self) -> None:
        """The optimizer's part of a step on the architecture."""
        ...

    def move_weights(self) -> None:
        """The optimizer's part of a step on the weights."""
        ...


def made_up_ms(spec: OperatorSpec) -> float:
    """A made-up time for a specification, proportional to the size and channels of its input map."""
    return 1e-3 + 1e-9 * spec.in_channels * spec.height * spec.width


def make_batch(crop_size_px: tuple[int, int], batch_size: int) -> LabeledImage:
    """Noise with random labels, a few rows of them ignored."""
    label = torch.randint(NUM_CLASSES, (batch_size, *crop_size_px))
    label[:, : crop_size_px[0] // 16] = IGNORE_INDEX
    return LabeledImage(torch.randn(batch_size, 3, *crop_size_px), label, [""] * batch_size)


def make_problem(space: SpaceConfig) -> LatticeProblem:
    """The lattice problem of the student's expected latency."""
    return LatticeProblem(space, "student", NUM_CLASSES, INPUT_SIZE)


class FastSide:
    """The steps of `search.steps`.

    Args:
        work: What to run.
        state: Weights and architecture parameters to start from; None for fresh ones.
        draws: Operators drawn for each mixture; 0 for all of them.
    """

    def __init__(self, work: Workload, state: Mapping[str, torch.Tensor] | None = None, *, draws: int = 0) -> None:
        self.supernet = Supernet(work.space, NUM_CLASSES)
        if state is not None:
            self.supernet.load_state_dict(state)
        prepare_supernet(self.supernet, work.fabric)
        self.supernet.train()
        self.work = work
        self.expected = ExpectedLatency(make_problem(work.space), entry_ms=made_up_ms, pairs=BRANCH_PAIRS)
        drawing: dict[str, object] = {"relaxation": "sampled", "sampled_operators": draws} if draws else {}
        config = work.config.model_copy(update=drawing)
        loss = SupernetLoss(config, ignore_index=IGNORE_INDEX, fabric=work.fabric)
        self.weights = WeightsStep(self.supernet, config, loss=loss, fabric=work.fabric, draws=draws)
        self.architecture = ArchitectureStep(
            self.supernet, config, loss=loss, latency_term=self._latency_term, fabric=work.fabric
        )

    def _latency_term(self, probabilities: ArchitectureProbabilities) -> torch.Tensor:
        return LATENCY_WEIGHT * latency_regularizer(self.expected, probabilities, "decoupled")

    def architecture_gradients(self) -> torch.Tensor:
        """See `Side`."""
        losses = self.architecture.gradients(self.work.batch)
        return losses["loss"] + losses["latency"]

    def weights_gradients(self, passes: Sequence[Pass]) -> torch.Tensor:
        """See `Side`."""
        kinds = self.weights.gradients(self.work.batch, passes=passes)
        # the mean of each kind of pass, times how often it ran
        counts = [sum(f"{one.architecture_set}_{one.width_mode}" == kind for one in passes) for kind in kinds]
        return torch.stack([count * loss for count, loss in zip(counts, kinds.values(), strict=True)]).sum()

    def move_architecture(self) -> None:
        """See `Side`."""
        self.architecture.move()

    def move_weights(self) -> None:
        """See `Side`."""
        self.weights.move()


class ReferenceSide:
    """The steps of `search.reference`, with the same optimizers.

    Args:
        work: What to run.
        state: Weights and architecture parameters to start from; None for fresh ones.
    """

    def __init__(self, work: Workload, state: Mapping[str, torch.Tensor] | None = None) -> None:
        self.supernet = ReferenceSupernet(work.space, NUM_CLASSES)
        if state is not None:
            self.supernet.load_state_dict(state)
        work.fabric.to_device(self.supernet)
        self.supernet.train()
        self.work = work
        loss = SupernetLoss(work.config, ignore_index=IGNORE_INDEX, fabric=work.fabric)
        self.step = ReferenceStep(self.supernet, criterion=loss.criterion, fabric=work.fabric)
        self.latency = ReferenceLatency(make_problem(work.space), entry_ms=made_up_ms, pairs=BRANCH_PAIRS)
        self.sgd = set_up(weights_optimizer(self.supernet.weights(), work.config), work.fabric)
        rates = work.config.architecture
        adam = torch.optim.Adam(self.supernet.architecture_parameters(), lr=rates.lr, betas=rates.betas, fused=True)
        self.adam = set_up(adam, work.fabric)

    def architecture_gradients(self) -> torch.Tensor:
        """See `Side`."""
        self.adam.zero_grad(set_to_none=True)
        return self.step.architecture_gradients(
            self.work.batch.image,
            self.work.batch.label,
            passes=SEARCH_PASSES,
            latency=self.latency,
            latency_weight=LATENCY_WEIGHT,
        )

    def weights_gradients(self, passes: Sequence[Pass]) -> torch.Tensor:
        """See `Side`."""
        self.sgd.zero_grad(set_to_none=True)
        return self.step.weights_gradients(self.work.batch.image, self.work.batch.label, passes=passes)

    def move_architecture(self) -> None:
        """See `Side`."""
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)

    def move_weights(self) -> None:
        """See `Side`."""
        # the architecture's gradients were computed as well, but do not count towards the norm
        self.adam.zero_grad(set_to_none=True)
        clip_gradients(self.work.fabric, self.supernet, self.sgd, max_norm=self.work.config.grad_clip)
        self.sgd.step()
