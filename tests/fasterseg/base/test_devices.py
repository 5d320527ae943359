"""Number formats by the toolkit's own names."""

import pytest
from pydantic import ValidationError

from fasterseg.base.devices import FABRIC_PRECISIONS, DeviceConfig


@pytest.mark.parametrize(
    ("other", "name"), [("32-true", "fp32"), ("float32", "fp32"), ("bf16-mixed", "bf16"), ("bfloat16", "bf16")]
)
def test_other_names_of_a_format_are_refused_with_the_toolkits(other: str, name: str) -> None:
    with pytest.raises(ValidationError, match=f"write {name}"):
        DeviceConfig.model_validate({"precision": other})
    assert DeviceConfig.model_validate({"precision": name}).precision == name


@pytest.mark.parametrize("precision", ["int8", "fp16", ["fp32"], 32])
def test_formats_that_training_lacks(precision: object) -> None:
    with pytest.raises(ValidationError, match="'fp32' or 'bf16'"):
        DeviceConfig.model_validate({"precision": precision})


def test_every_training_format_has_a_name_in_fabric() -> None:
    assert FABRIC_PRECISIONS == {"fp32": "32-true", "bf16": "bf16-mixed"}
