"""The width of every map in one pass of the supernet: full, least, random, or as the architecture says."""

from typing import Literal, NamedTuple

import torch
from torch.nn import functional

from fasterseg.networks.derivation import width_row
from fasterseg.networks.space import ArchitectureSet, SpaceConfig
from search.parameters import ArchitectureParameters

WidthMode = Literal["max", "min", "random", "sampled", "most_probable"]


class WidthChoice(NamedTuple):
    """The width of one map.

    Attributes:
        width: The width multiplier.
        gate: A scalar of value 1 that carries the gradient of a sampled choice; None where there is none.
    """

    width: float
    gate: torch.Tensor | None = None


def choose_widths(
    parameters: ArchitectureParameters, space: SpaceConfig, *, architecture_set: ArchitectureSet, mode: WidthMode
) -> dict[tuple[int, int], WidthChoice]:
    """A width for each map that enters a cell, by (layer, output stride), layers 1 and later.

    `max`, `min` and `random` draw on all widths of the space, for either set: they train the weights. `sampled` and
    `most_probable` follow the set's own width logits. A sampled width is a hard Gumbel-softmax with straight-through
    gradient (temperature 1). Random numbers come from PyTorch's global generator.
    """
    widths = space.set_widths(architecture_set) if mode in ("sampled", "most_probable") else space.widths
    places = [(layer, stride) for layer in range(1, space.layers) for stride in space.strides_at(layer)]
    if len(widths) == 1 or mode == "max":
        return dict.fromkeys(places, WidthChoice(widths[-1]))
    if mode == "min":
        return dict.fromkeys(places, WidthChoice(widths[0]))
    if mode == "random":
        drawn = torch.randint(len(widths), (len(places),)).tolist()
        return {place: WidthChoice(widths[index]) for place, index in zip(places, drawn, strict=True)}
    rows = torch.stack([parameters.width_logits[str(stride)][width_row(layer, stride)] for layer, stride in places])
    if mode == "most_probable":
        return {
            place: WidthChoice(widths[index]) for place, index in zip(places, rows.argmax(dim=1).tolist(), strict=True)
        }
    sampled = functional.gumbel_softmax(rows, hard=True, dim=1)
    indices = sampled.argmax(dim=1, keepdim=True)
    gates = sampled.gather(1, indices).squeeze(1).unbind() if rows.requires_grad else [None] * len(places)
    return {
        place: WidthChoice(widths[index], gate)
        for place, index, gate in zip(places, indices.squeeze(1).tolist(), gates, strict=True)
    }
