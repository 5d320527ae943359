"""Every operator specification that a search space can reach: the entries of its latency table.

Teacher and student, which differ in stem and head width, and both pairs of branches are covered. Skips that go down and
skips in the last layer are included: no derived network has them, but the expected latency of a search does.
"""

from collections.abc import Iterator
from typing import NamedTuple

from fasterseg.networks.architecture import CellChoice
from fasterseg.networks.derived import cell_spec, fusion_specs, stem_specs, tail_specs
from fasterseg.networks.heads import fused_channels, stem_channels
from fasterseg.networks.operator_specs import OperatorSpec
from fasterseg.networks.operators import SKIP
from fasterseg.networks.resizing import Size
from fasterseg.networks.space import BRANCH_PAIRS, STRIDES, ArchitectureSet, Branches, SpaceConfig, first_layer

ARCHITECTURE_SETS: tuple[ArchitectureSet, ...] = ("teacher", "student")


class FusionStep(NamedTuple):
    """One step of a branch's fusion: from `deep_channels` at twice `shallow_scale` to `out_channels` there."""

    shallow_scale: int
    deep_channels: int
    out_channels: int


class ReachableSpecs(NamedTuple):
    """The operators that the networks of one architecture set can have, by their position in the network.

    Attributes:
        space: The search space.
        architecture_set: Teacher or student, which differ in their widths.
        num_classes: Channels of the logits.
        input_size: (height, width) of the image.
    """

    space: SpaceConfig
    architecture_set: ArchitectureSet
    num_classes: int
    input_size: Size

    @property
    def end_width(self) -> float:
        """The width multiplier of the stem and of the branches' last maps."""
        return self.space.end_width(self.architecture_set)

    @property
    def widths(self) -> tuple[float, ...]:
        """The width multipliers of the maps between cells."""
        return self.space.set_widths(self.architecture_set)

    def map_channels(self, stride: int) -> tuple[int, ...]:
        """Channels of a map of that output stride at each width and, at stride 8, of the stem's."""
        channels = tuple(self.space.channels(stride, width) for width in self.widths)
        if stride > STRIDES[0]:
            return channels
        return (*channels, stem_channels(self.space.base_channels, self.end_width)[-1])

    def stem(self) -> tuple[OperatorSpec, ...]:
        """The stem's blocks."""
        return stem_specs(self.space.base_channels, self.end_width, input_size=self.input_size)

    def cells(self, scale: int, out_scale: int) -> Iterator[CellChoice]:
        """The cells that are not a branch's last, from one output stride to the same or the next.

        Skips that keep the stride are excluded, because a network leaves them out. A space can be too shallow to have
        such cells.
        """
        if first_layer(scale) >= self.space.layers - 1:
            return
        stride = out_scale // scale
        for operator in self.space.operators:
            if operator != SKIP or stride > 1:
                yield from (CellChoice(operator, scale=scale, stride=stride, width=width) for width in self.widths)

    def last_cells(self, scale: int) -> Iterator[CellChoice]:
        """The cells that a branch can end with at an output stride."""
        for operator in self.space.operators:
            yield CellChoice(operator, scale=scale, stride=1, width=self.end_width)

    def cell_specs(self, cell: CellChoice) -> Iterator[OperatorSpec]:
        """A cell's operator on each of the maps it can read, in the order of `map_channels`."""
        out_channels = self.space.channels(cell.out_scale, cell.width)
        for in_channels in self.map_channels(cell.scale):
            yield cell_spec(cell, in_channels, out_channels, input_size=self.input_size)

    def fusion_steps(self, end: int) -> Iterator[FusionStep]:
        """The steps that bring a branch from the output stride of its end back to stride 8."""
        deep_channels, scale = self.space.channels(end, self.end_width), end
        for out_channels in fused_channels(self.space.base_channels, self.end_width, steps=STRIDES.index(end)):
            scale //= 2
            yield FusionStep(scale, deep_channels, out_channels)
            deep_channels = out_channels

    def fusion_specs(self, step: FusionStep, shallow_channels: int) -> Iterator[OperatorSpec]:
        """Projection, resize and refinement of a step; the refinement also reads a map of `shallow_channels`."""
        return fusion_specs(
            step.deep_channels,
            shallow_channels,
            out_channels=step.out_channels,
            deep_scale=2 * step.shallow_scale,
            input_size=self.input_size,
        )

    def tail(self, pair: Branches) -> tuple[OperatorSpec, ...]:
        """Feature fusion module, head and final resize after a pair of branches."""
        channels = sum(self._fused_channels(end) for end in pair)
        return tail_specs(channels, self.num_classes, input_size=self.input_size)

    def _fused_channels(self, end: int) -> int:
        """Channels of a branch after its fusion."""
        *_, channels = (
            self.space.channels(end, self.end_width),
            *(step.out_channels for step in self.fusion_steps(end)),
        )
        return channels

    def all(self) -> Iterator[OperatorSpec]:
        """Every specification in running order; some occur more than once."""
        yield from self.stem()
        for scale in STRIDES:
            cells = [*self.last_cells(scale), *self.cells(scale, scale)]
            if scale < STRIDES[-1]:
                cells += self.cells(scale, 2 * scale)
            for cell in cells:
                yield from self.cell_specs(cell)
        for end in STRIDES:
            for step in self.fusion_steps(end):
                for shallow_channels in self.map_channels(step.shallow_scale):
                    yield from self.fusion_specs(step, shallow_channels)
        for pair in BRANCH_PAIRS:
            yield from self.tail(pair)


def reachable_specs(space: SpaceConfig, num_classes: int, *, input_size: Size) -> tuple[OperatorSpec, ...]:
    """The specifications of all networks of a space, each once, in running order.

    Args:
        space: The search space.
        num_classes: Channels of the logits.
        input_size: (height, width) of the image.
    """
    sets = [ReachableSpecs(space, architecture_set, num_classes, input_size) for architecture_set in ARCHITECTURE_SETS]
    return tuple(dict.fromkeys(spec for specs in sets for spec in specs.all()))
