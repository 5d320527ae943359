from typing import Any

import pytest
from pydantic import ValidationError

from fasterseg.networks import SpaceConfig


def test_the_default_is_the_published_space() -> None:
    space = SpaceConfig()
    assert (space.layers, space.base_channels, len(space.widths)) == (16, 12, 5)
    assert [space.channels(8, width) for width in space.widths] == [32, 48, 64, 80, 96]
    assert space.set_widths("teacher") == (1.0,)
    assert space.set_widths("student") == space.widths
    assert (space.end_width("teacher"), space.end_width("student")) == (1.0, 8 / 12)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"layers": 2}, "greater than or equal to 3"),
        ({"base_channels": 0}, "greater than or equal to 1"),
        ({"operators": ["skip", "conv_9x"]}, "unknown operator 'conv_9x'; the registered operators are skip, conv"),
        ({"operators": ["skip", "conv", "conv"]}, "an operator is named twice"),
        ({"operators": ["conv", "skip"]}, "expected 'skip' first"),
        ({"operators": ["skip"]}, "at least one other operator"),
        ({"operators": []}, "expected 'skip' first"),
        ({"widths": [1.0, 0.5]}, "expected ascending multipliers"),
        ({"widths": [0.5, 0.75]}, "the last one 1"),
        ({"widths": [0.0, 1.0]}, r"in \(0, 1\]"),
        ({"widths": []}, "expected ascending multipliers"),
        ({"student_width": 0.7}, "student_width 0.7 is not among widths"),
        ({"teacher_width": 2.0}, "teacher_width 2.0 is not among widths"),
        ({"base_channels": 1, "widths": [0.5, 1.0], "student_width": 0.5}, "two are equal; use fewer widths"),
        ({"depth": 3}, "Extra inputs"),
    ],
)
def test_wrong_fields_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SpaceConfig.model_validate(fields)


def test_strides_start_one_layer_after_each_other() -> None:
    space = SpaceConfig(layers=4)
    assert [space.strides_at(layer) for layer in range(4)] == [(8,), (8, 16), (8, 16, 32), (8, 16, 32)]


def test_a_space_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        SpaceConfig().layers = 5  # type: ignore[misc]
