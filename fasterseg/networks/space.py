"""The search space: depth, base channels, width multipliers, operators, and the widths of stem and heads.

The `space` section of an experiment file is this model. Everything that is searched over, timed or enumerated
derives from it; strides are fixed at 8, 16 and 32.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from fasterseg.base.experiment import Section
from fasterseg.networks.channels import cell_channels

STRIDES = (8, 16, 32)
Branches = tuple[int, ...]
BRANCH_PAIRS: tuple[Branches, Branches] = ((32, 16), (32, 8))
PUBLISHED_WIDTHS = (4 / 12, 6 / 12, 8 / 12, 10 / 12, 1.0)
ArchitectureSet = Literal["teacher", "student"]


def first_layer(stride: int) -> int:
    """The first layer that has a cell of the given output stride: 0, 1 and 2 for strides 8, 16 and 32."""
    return STRIDES.index(stride)


def _built_in_operators() -> tuple[str, ...]:
    # imported here because it needs PyTorch, and `--help` runs without PyTorch
    from fasterseg.networks.operators import OPERATOR_NAMES

    return OPERATOR_NAMES


class SpaceConfig(Section):
    """What can be searched: the `space` section.

    Attributes:
        layers: Cells on a path (L); at least 3, and 8 or more give the derivation a real choice of path.
        base_channels: F; a map of output stride s has s·F channels at width 1.
        widths: Width multipliers a cell's output can take, ascending, the last one 1.
        operators: Registered operator names, `skip` first.
        teacher_width: Stem and head width multiplier of the teacher.
        student_width: Stem and head width multiplier of the student.
    """

    layers: Annotated[int, Field(ge=3)] = 16
    base_channels: Annotated[int, Field(ge=1)] = 12
    widths: tuple[float, ...] = PUBLISHED_WIDTHS
    operators: tuple[str, ...] = Field(default_factory=_built_in_operators)
    teacher_width: float = 1.0
    student_width: float = 8 / 12

    @field_validator("operators")
    @classmethod
    def _known_operators(cls, operators: tuple[str, ...]) -> tuple[str, ...]:
        from fasterseg.networks.operators import SKIP, operator_class

        for name in operators:
            operator_class(name)
        if len(set(operators)) != len(operators):
            raise ValueError(f"an operator is named twice in {list(operators)}; name each once")
        if SKIP not in operators[:1] or len(operators) < 2:
            raise ValueError(f"got {list(operators)}; expected '{SKIP}' first and at least one other operator")
        return operators

    @field_validator("widths")
    @classmethod
    def _ascending_widths(cls, widths: tuple[float, ...]) -> tuple[float, ...]:
        if not widths or list(widths) != sorted(set(widths)) or widths[0] <= 0 or widths[-1] != 1:
            raise ValueError(f"got {list(widths)}; expected ascending multipliers in (0, 1], the last one 1")
        return widths

    @model_validator(mode="after")
    def _end_widths_are_choices(self) -> Self:
        for name in ("teacher_width", "student_width"):
            width = getattr(self, name)
            if not any(abs(width - choice) < 1e-6 for choice in self.widths):
                raise ValueError(f"{name} {width} is not among widths {list(self.widths)}; use one of them")
        channels = [cell_channels(STRIDES[0], self.base_channels, width) for width in self.widths]
        if len(set(channels)) != len(channels):
            raise ValueError(
                f"widths {list(self.widths)} give {channels} channels at stride 8 with base_channels "
                f"{self.base_channels}: two are equal; use fewer widths or more base channels"
            )
        return self

    def end_width(self, architecture_set: ArchitectureSet) -> float:
        """The stem and head width multiplier of that architecture set."""
        return self.teacher_width if architecture_set == "teacher" else self.student_width

    def set_widths(self, architecture_set: ArchitectureSet) -> tuple[float, ...]:
        """The widths that an architecture set searches over; the teacher always has full width."""
        return (1.0,) if architecture_set == "teacher" else self.widths

    def channels(self, output_stride: int, width: float) -> int:
        """Channels of a cell's map at an output stride and width multiplier."""
        return cell_channels(output_stride, self.base_channels, width)

    def strides_at(self, layer: int) -> tuple[int, ...]:
        """The output strides that have a cell at that layer."""
        return tuple(stride for stride in STRIDES if layer >= first_layer(stride))
