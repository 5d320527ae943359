"""Fitting another program's state dict into a network of ours: names mapped, shapes checked, leftovers listed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from fasterseg.networks import Network

_WRAPPER = "state_dict"
_PARALLEL_PREFIX = "module."
_COUNTER = "num_batches_tracked"

ArchitectureT = TypeVar("ArchitectureT")
HeldT = TypeVar("HeldT", covariant=True)


@dataclass(frozen=True)
class ImportedWeights(Generic[HeldT]):
    """A state dict of one of our networks, with weights from another program.

    Attributes:
        architecture: The architecture it belongs to.
        num_classes: Channels of the logits.
        weights: The network's complete state dict; tensors that the source lacks have fresh values.
        dropped: Names of tensors in the source that the network does not use.
        uninitialised: Names of our tensors that the source lacks.
    """

    architecture: HeldT
    num_classes: int
    weights: Mapping[str, torch.Tensor]
    dropped: tuple[str, ...]
    uninitialised: tuple[str, ...]


def reference_state(data: object, source: str) -> dict[str, torch.Tensor]:
    """The tensors of a loaded weights file by name, without the wrappings that training programs put around them.

    Args:
        data: What the file held: a state dict, or a dict that holds one under `state_dict`; a `module.` before every
            name is taken off.
        source: What an error message calls the file.

    Raises:
        ValueError: It holds something other than named tensors, or nothing.
    """
    if isinstance(data, Mapping) and isinstance(data.get(_WRAPPER), Mapping):
        data = data[_WRAPPER]
    if not isinstance(data, Mapping) or not data:
        raise ValueError(f"{source} holds no state dict; expected tensors by name, as they are or under '{_WRAPPER}'")
    for name, value in data.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise ValueError(
                f"{source} holds {type(value).__name__} under {name!r}, expected a state dict of named tensors; "
                "save the network's state_dict() alone"
            )
    if all(name.startswith(_PARALLEL_PREFIX) for name in data):
        return {name.removeprefix(_PARALLEL_PREFIX): value for name, value in data.items()}
    return dict(data)


def fit_weights(
    state: Mapping[str, torch.Tensor],
    our_name: Callable[[str], str | None],
    network: Network,
    *,
    architecture: ArchitectureT,
    source: str,
) -> ImportedWeights[ArchitectureT]:
    """Maps a reference state dict to a network's names and shapes; the network itself is not changed.

    Args:
        state: Tensors by the reference's names.
        our_name: Our name of a reference's tensor; None to drop it. If two tensors get the same name, the later one is
            used.
        network: A fresh network of the architecture.
        architecture: What the network was built from.
        source: What an error message calls the state dict.

    Raises:
        ValueError: A tensor has another shape than ours or is not in the network, or no tensor is used.
    """
    weights = {name: value.detach().clone() for name, value in network.state_dict().items()}
    missing = {name for name in weights if not name.endswith(_COUNTER)}
    dropped = []
    for reference_name, value in state.items():
        name = our_name(reference_name)
        if name is None:
            dropped.append(reference_name)
            continue
        if name not in weights:
            raise ValueError(
                f"{source}: tensor {reference_name} would be {name}, which {type(network).__name__} of this "
                "architecture does not have; import it with the architecture (stem, branches) it was trained with"
            )
        if value.shape != weights[name].shape:
            raise ValueError(
                f"{source}: tensor {reference_name} has shape {tuple(value.shape)}, but {name} needs "
                f"{tuple(weights[name].shape)}; import it with the architecture (stem, width, classes) it was trained "
                "with"
            )
        weights[name] = value.detach().to("cpu", weights[name].dtype, copy=True)
        missing.discard(name)
    if len(dropped) == len(state):
        raise ValueError(
            f"{source} holds nothing for {type(network).__name__}; its names are {', '.join(list(state)[:3])}, ..."
        )
    uninitialised = tuple(name for name in weights if name in missing)
    return ImportedWeights(architecture, network.num_classes, weights, tuple(dropped), uninitialised)


def moved_name(name: str, table: Mapping[str, str]) -> str | None:
    """The name with its prefix replaced according to the table; None if no prefix matches."""
    for theirs, ours in table.items():
        if name.startswith(theirs + "."):
            return ours + name.removeprefix(theirs)
    return None


def class_count(state: Mapping[str, torch.Tensor], classifier: str, source: str) -> int:
    """The number of classes of a reference network, from the shape of its classifier's weight.

    Raises:
        ValueError: It has no such weight.
    """
    if classifier not in state:
        raise ValueError(
            f"{source} has no tensor {classifier}, which tells the class count; its names are "
            f"{', '.join(list(state)[:3])}, ..."
        )
    return int(state[classifier].shape[0])
