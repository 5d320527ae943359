import pytest
from pydantic import BaseModel, ValidationError, field_validator

from dataset_tools.validation import describe_problems


class Model(BaseModel):
    count: int
    name: str

    @field_validator("name")
    @classmethod
    def _check(cls, value: str) -> str:
        raise ValueError(f"no name is {value!r} here")


def test_one_line_per_field() -> None:
    with pytest.raises(ValidationError) as caught:
        Model.model_validate({"count": "many", "name": "x"})
    lines = describe_problems(caught.value, "a.yaml").splitlines()
    assert lines[0] == "a.yaml:"
    assert lines[1].startswith("  count: ")
    assert lines[2] == "  name: no name is 'x' here"
    assert len(lines) == 3
