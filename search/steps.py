"""One step of each supernet stage: gradients of all passes, then the optimizer.

A stage's state is in its steps' optimizers; what happens around the steps (data, validation, derivation) is in
`search.pretrain` and `search.stage`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import get_args

import torch
from lightning_fabric import Fabric

from dataset_tools.dataset import LabeledImage
from fasterseg.engine.distributed import average_gradients
from fasterseg.engine.optimization import clip_gradients
from fasterseg.networks.space import ArchitectureSet
from search.config import SearchConfig, SupernetTrainConfig
from search.parameters import ArchitectureProbabilities
from search.supernet import Pass, Supernet
from search.training import SupernetLoss, frozen, set_up, weights_optimizer
from search.widths import WidthMode

SETS: tuple[ArchitectureSet, ...] = get_args(ArchitectureSet)
SANDWICH: tuple[WidthMode, ...] = ("max", "min", "random", "random")
SEARCH_PASSES = (Pass("teacher", "sampled"), Pass("student", "max"), Pass("student", "sampled"), Pass("student", "min"))

LatencyTerm = Callable[[ArchitectureProbabilities], torch.Tensor]


class WeightsStep:
    """One step of SGD on the supernet's weights; the architecture stays as it is.

    Args:
        supernet: On its device.
        config: Rate, momentum, decay and the gradient's largest norm.
        loss: The loss of a pass.
        fabric: The processes.
        draws: Operators drawn for each mixture; 0 for all of them.
    """

    def __init__(
        self, supernet: Supernet, config: SupernetTrainConfig, *, loss: SupernetLoss, fabric: Fabric, draws: int = 0
    ) -> None:
        self.supernet, self.loss, self.fabric, self.draws = supernet, loss, fabric, draws
        self.max_norm = config.grad_clip
        self.weights = list(supernet.weights())
        self.optimizer = set_up(weights_optimizer(self.weights, config), fabric)

    def gradients(self, batch: LabeledImage, *, passes: Sequence[Pass]) -> dict[str, torch.Tensor]:
        """Computes the gradients of all passes, averaged over the processes; returns the passes' losses."""
        # with drawn operators a step leaves some convolutions without a gradient, which must stay None
        self.supernet.clear_gradients(keep_memory=self.draws == 0)
        with frozen(self.supernet.architecture_parameters()):
            losses = self.loss.backward(self.supernet, batch.image, batch.label, passes=passes, draws=self.draws)
        average_gradients(self.weights, self.fabric)
        return losses

    def run(self, batch: LabeledImage, *, passes: Sequence[Pass]) -> dict[str, torch.Tensor]:
        """Computes the gradients and takes an optimizer step; returns the passes' losses."""
        losses = self.gradients(batch, passes=passes)
        self.move()
        return losses

    def move(self) -> None:
        """Clips the gradients and takes an optimizer step."""
        clip_gradients(self.fabric, self.supernet, self.optimizer, max_norm=self.max_norm)
        self.optimizer.step()


class ArchitectureStep:
    """One step of Adam on the architecture parameters; no gradient of the weights is computed.

    Args:
        supernet: On its device.
        config: Rate, betas and passes.
        loss: The loss of a pass.
        latency_term: The student's expected latency as a loss term.
        fabric: The processes.
    """

    def __init__(
        self,
        supernet: Supernet,
        config: SearchConfig,
        *,
        loss: SupernetLoss,
        latency_term: LatencyTerm,
        fabric: Fabric,
    ) -> None:
        self.supernet, self.loss, self.fabric, self.latency_term = supernet, loss, fabric, latency_term
        self.draws = config.draws
        self.weights = list(supernet.weights())
        sampled_only = config.architecture.passes == "sampled"
        self.passes = [one for one in SEARCH_PASSES if one.width_mode == "sampled" or not sampled_only]
        adam = torch.optim.Adam(
            supernet.architecture_parameters(),
            lr=config.architecture.lr,
            betas=config.architecture.betas,
            weight_decay=0,
            fused=True,
        )
        self.optimizer = set_up(adam, fabric)

    def gradients(self, batch: LabeledImage) -> dict[str, torch.Tensor]:
        """Computes gradients, averaged over the processes; returns the losses: `loss` of all passes and `latency`."""
        self.optimizer.zero_grad(set_to_none=True)
        with frozen(self.weights):
            losses = self.loss.backward(self.supernet, batch.image, batch.label, passes=self.passes, draws=self.draws)
        latency_term = self.latency_term(self.supernet.architecture("student").probabilities())
        self.fabric.backward(latency_term)
        average_gradients(self.supernet.architecture_parameters(), self.fabric)
        return {
            "loss": torch.stack(list(losses.values())).sum(),
            "latency": latency_term.detach().to(self.fabric.device, torch.float32),
        }

    def run(self, batch: LabeledImage) -> Mapping[str, torch.Tensor]:
        """Computes the gradients and takes an optimizer step; returns the losses of `gradients`."""
        losses = self.gradients(batch)
        self.move()
        return losses

    def move(self) -> None:
        """Takes an optimizer step, then frees the gradients."""
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
