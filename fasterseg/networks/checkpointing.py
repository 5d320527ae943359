"""Gradient checkpointing: a training step that keeps the maps between a few segments and computes the rest again.

The second computation leaves the batch norm statistics alone, so gradients, running statistics and the counters of
batches are those of a step without it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from fasterseg.networks.network import Network


class CheckpointedNetwork(Network):
    """Base of the networks that can train in less memory.

    Attributes:
        memory_saving: Whether a training step computes the inside of the network's segments again in its backward
            pass instead of keeping it.
    """

    memory_saving: bool = False

    def run_segment(self, segment: Callable[..., Any], *maps: torch.Tensor) -> Any:
        """What `segment`, a part of this network, makes of the maps; see `memory_saving`."""
        if not (self.memory_saving and self.training and torch.is_grad_enabled()):
            return segment(*maps)
        return checkpoint(
            segment, *maps, use_reentrant=False, context_fn=lambda: (nullcontext(), _kept_statistics(self))
        )


def enable_memory_saving(network: Network) -> None:
    """Turns gradient checkpointing on.

    Raises:
        ValueError: The network has no segments to recompute.
    """
    if not isinstance(network, CheckpointedNetwork):
        raise ValueError(
            f"memory_saving is not available for {type(network).__name__}, only for ICNet and PSPNet; set it to false"
        )
    network.memory_saving = True


@contextmanager
def _kept_statistics(network: nn.Module) -> Iterator[None]:
    """Batch norms move copies of their running statistics and of their counters; their own are back afterwards."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm) and module.training]
    kept = [(norm, name, buffer) for norm in norms for name, buffer in norm.named_buffers(recurse=False)]
    for norm, name, buffer in kept:
        setattr(norm, name, buffer.clone())
    try:
        yield
    finally:
        for norm, name, buffer in kept:
            setattr(norm, name, buffer)
