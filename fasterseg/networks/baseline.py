"""What the baselines have in common: architectures as plain data, and gradient checkpointing.

Gradient checkpointing saves memory: the forward pass keeps only the maps between a few segments, and the backward pass
recomputes the rest. The recomputation does not update the batch norms' running statistics. So gradients, running
statistics and counters equal those of a step without checkpointing.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from fasterseg.networks.channels import STEM_KINDS, StemKind
from fasterseg.networks.network import Network

FORMAT_VERSION = 1


@dataclass(frozen=True)
class BaselineArchitecture:
    """A baseline's structure as plain data.

    Attributes:
        stem: `deep` is three 3×3 convolutions, `plain` one of 7×7.
        width_factor: Multiplier of all channel counts, in (0, 1].

    Raises:
        ValueError: A field has an invalid value.
    """

    FORMAT: ClassVar[str]

    stem: StemKind = "deep"
    width_factor: float = 1.0

    def __post_init__(self) -> None:
        if self.stem not in STEM_KINDS:
            raise ValueError(f"stem is {self.stem!r}, expected one of {', '.join(STEM_KINDS)}")
        if not 0 < self.width_factor <= 1:
            raise ValueError(f"width_factor is {self.width_factor}, expected a multiplier in (0, 1]")

    def build(self, num_classes: int) -> Network:
        """The network with fresh weights."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """The architecture as JSON-ready plain data with its format and version."""
        return {"format": self.FORMAT, "version": FORMAT_VERSION, **asdict(self)}

    @classmethod
    def from_dict(cls, data: Any, source: str = "architecture") -> Self:
        """The architecture that `to_dict` wrote.

        Args:
            data: Parsed JSON.
            source: What an error message calls the data, such as its file.

        Raises:
            ValueError: The data is of another format or version, incomplete, or has invalid fields.
        """
        if not isinstance(data, dict) or data.get("format") != cls.FORMAT:
            raise ValueError(f"{source} is not an architecture of format '{cls.FORMAT}'")
        if data.get("version") != FORMAT_VERSION:
            raise ValueError(f"{source} has version {data.get('version')}, this release reads version {FORMAT_VERSION}")
        values = {name: value for name, value in data.items() if name not in ("format", "version")}
        if set(values) != {"stem", "width_factor"}:
            raise ValueError(f"{source} has fields {', '.join(sorted(values)) or 'none'}; expected stem, width_factor")
        width = values["width_factor"]
        if isinstance(width, bool) or not isinstance(width, int | float):
            raise ValueError(f"{source}: width_factor is {width!r}, expected a number in (0, 1]")
        try:
            return cls(stem=values["stem"], width_factor=float(width))
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from error


class BaselineNetwork(Network):
    """Base class of the baselines.

    Attributes:
        memory_saving: Whether the backward pass recomputes the activations inside the network's segments instead of
            keeping them.
    """

    memory_saving: bool = False

    def run_segment(self, segment: Callable[..., Any], *maps: torch.Tensor) -> Any:
        """Runs a part of this network on the maps; see `memory_saving`."""
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
    if not isinstance(network, BaselineNetwork):
        raise ValueError(
            f"memory_saving is not available for {type(network).__name__}, only for ICNet and PSPNet; set it to false"
        )
    network.memory_saving = True


@contextmanager
def _kept_statistics(network: nn.Module) -> Iterator[None]:
    """While the block runs, batch norms update copies of their running statistics and counters."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm) and module.training]
    kept = [(norm, name, buffer) for norm in norms for name, buffer in norm.named_buffers(recurse=False)]
    for norm, name, buffer in kept:
        setattr(norm, name, buffer.clone())
    try:
        yield
    finally:
        for norm, name, buffer in kept:
            setattr(norm, name, buffer)
