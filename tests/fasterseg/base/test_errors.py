"""Errors in words: validation problems and differences."""

import errno

import cv2
import numpy as np
import pytest
import torch
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from fasterseg.base.errors import (
    describe_memory_error,
    describe_os_error,
    differences,
    list_problems,
    problems_of,
    summarize_differences,
)


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid")

    count: int
    name: str

    @field_validator("name")
    @classmethod
    def _check(cls, value: str) -> str:
        raise ValueError(f"no name is {value!r} here")


def test_one_line_per_field() -> None:
    with pytest.raises(ValidationError) as caught:
        Model.model_validate({"count": "many", "name": "x", "cuont": 1})
    lines = problems_of("a.yaml", caught.value, Model).splitlines()
    assert lines[0] == "a.yaml:"
    assert lines[1].startswith("  count: got 'many': ")
    assert lines[2] == "  name: got 'x': no name is 'x' here"
    assert lines[3] == "  cuont: unknown key; did you mean 'count'?"
    assert len(lines) == 4


def test_long_values_are_cut() -> None:
    with pytest.raises(ValidationError) as caught:
        Model.model_validate({"count": "x" * 10_000, "name": "x"})
    assert len(problems_of("a.yaml", caught.value, Model)) < 1000


def test_differences_have_full_names_and_both_values() -> None:
    found = {"a": {"b": 1, "c": [1, 2]}, "same": 0}
    wanted = {"a": {"b": 2, "c": [1, 2]}, "same": 0, "new": "x"}
    assert list(differences(found, wanted)) == ["a.b is 1 there, 2 here", "new is None there, x here"]


def test_many_differences_are_counted() -> None:
    assert summarize_differences(["a", "b", "c", "d", "e", "f"]) == "a; b; c; d; and 2 more"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.EROFS, "Read-only file system", "a/b"), "a/b: Read-only file system; choose a place"),
        (OSError(errno.EXDEV, "Invalid cross-device link", "a", None, "b\n"), "a -> b\\n: Invalid cross-device link"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device; free some"),
    ],
)
def test_what_the_system_refuses_is_told_with_its_file(error: OSError, message: str) -> None:
    assert describe_os_error(error).startswith(message)


def test_errors_without_path_or_number_are_said_as_they_are() -> None:
    assert describe_os_error(OSError("it broke")).startswith("it broke. What was there before is kept")
    assert describe_os_error(OSError(errno.EIO, "Input/output error")).startswith("Input/output error; check the disk")


def test_memory_errors_of_all_libraries_are_told_from_others() -> None:
    tries = [
        lambda: torch.empty(10**15),
        lambda: np.empty(10**15),
        lambda: cv2.resize(np.zeros((10, 10), np.uint8), (10**6, 10**6)),
    ]
    for use in tries:
        with pytest.raises((RuntimeError, MemoryError, cv2.error)) as caught:
            use()
        said = describe_memory_error(caught.value)
        assert said is not None and said.startswith("out of memory: ") and "\n" not in said
    assert describe_memory_error(ValueError("out of memory")) is None
    assert describe_memory_error(RuntimeError("shapes differ")) is None


def test_problems_are_cut() -> None:
    text = list_problems([f"p{number}" for number in range(25)])
    assert "p19" in text and "p20" not in text and "... and 5 more" in text
