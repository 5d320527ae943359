"""Every operator specification that a search space can reach: what a latency table has to hold.

Teacher and student differ in the width of their stem and ends; both pairs of branches are covered. Skips that go down
and skips in the last layer are among them: a derivation leaves none, but the expected latency of a search weighs them.
"""

from collections.abc import Iterator

from fasterseg.networks.architecture import CellChoice
from fasterseg.networks.channels import cell_channels
from fasterseg.networks.derived import cell_spec, fusion_specs, stem_specs, tail_specs
from fasterseg.networks.heads import fused_channels, stem_channels
from fasterseg.networks.operators import SKIP
from fasterseg.networks.resizing import Size
from fasterseg.networks.space import BRANCH_PAIRS, STRIDES, ArchitectureSet, SpaceConfig, first_layer
from fasterseg.networks.specs import OperatorSpec

ARCHITECTURE_SETS: tuple[ArchitectureSet, ...] = ("teacher", "student")


def reachable_specs(space: SpaceConfig, num_classes: int, *, input_size: Size) -> tuple[OperatorSpec, ...]:
    """The specifications of all networks of a space, each once, in running order.

    Args:
        space: The search space.
        num_classes: Channels of the logits.
        input_size: (height, width) of the image.
    """
    specs: dict[OperatorSpec, None] = {}
    for architecture_set in ARCHITECTURE_SETS:
        width = space.end_width(architecture_set)
        specs.update(dict.fromkeys(stem_specs(space.base_channels, width, input_size=input_size)))
        specs.update(dict.fromkeys(_cell_specs(space, architecture_set, input_size)))
        specs.update(dict.fromkeys(_fusion_specs(space, architecture_set, input_size)))
        for ends in BRANCH_PAIRS:
            channels = fused_width(space, width, ends)
            specs.update(dict.fromkeys(tail_specs(channels, num_classes, input_size=input_size)))
    return tuple(specs)


def map_channels(space: SpaceConfig, architecture_set: ArchitectureSet, stride: int) -> tuple[int, ...]:
    """The channel counts that a map of that output stride can have, the stem's among them at stride 8."""
    channels = [space.channels(stride, width) for width in space.set_widths(architecture_set)]
    if stride == STRIDES[0]:
        channels.append(stem_channels(space.base_channels, space.end_width(architecture_set))[-1])
    return tuple(dict.fromkeys(channels))


def fused_width(space: SpaceConfig, head_width: float, ends: tuple[int, ...]) -> int:
    """Channels of the concatenated branches that end at the given strides."""
    return sum(
        fused_channels(space.base_channels, head_width, steps=STRIDES.index(end))[-1]
        if end > STRIDES[0]
        else cell_channels(end, space.base_channels, head_width)
        for end in ends
    )


def _cell_specs(space: SpaceConfig, architecture_set: ArchitectureSet, input_size: Size) -> Iterator[OperatorSpec]:
    widths, end_width = space.set_widths(architecture_set), space.end_width(architecture_set)
    for scale in STRIDES:
        edges = [(operator, 1, end_width) for operator in space.operators]
        if first_layer(scale) < space.layers - 1:
            edges += [(operator, 1, width) for operator in space.operators if operator != SKIP for width in widths]
            edges += [(operator, 2, width) for operator in space.operators for width in widths if scale < STRIDES[-1]]
        for operator, stride, width in dict.fromkeys(edges):
            cell = CellChoice(operator=operator, scale=scale, stride=stride, width=width)
            out_channels = space.channels(cell.out_scale, width)
            for in_channels in map_channels(space, architecture_set, scale):
                yield cell_spec(cell, in_channels, out_channels, input_size=input_size)


def _fusion_specs(space: SpaceConfig, architecture_set: ArchitectureSet, input_size: Size) -> Iterator[OperatorSpec]:
    width = space.end_width(architecture_set)
    for end in STRIDES[1:]:
        deep, deep_scale = space.channels(end, width), end
        for out_channels in fused_channels(space.base_channels, width, steps=STRIDES.index(end)):
            for shallow in map_channels(space, architecture_set, deep_scale // 2):
                yield from fusion_specs(
                    deep, shallow, out_channels=out_channels, deep_scale=deep_scale, input_size=input_size
                )
            deep, deep_scale = out_channels, deep_scale // 2
