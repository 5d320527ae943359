import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fasterseg.networks import Architecture, CellChoice
from tests.released_student import released_student


def test_json_round_trip_keeps_everything(tmp_path: Path) -> None:
    architecture = released_student()
    path = tmp_path / "architecture.json"
    architecture.save(path)
    assert Architecture.load(path) == architecture
    assert hash(Architecture.load(path)) == hash(architecture)
    assert list(tmp_path.iterdir()) == [path]


def test_ends_are_the_branches_last_output_strides() -> None:
    assert released_student().ends == (32, 16)


def cell(operator: str = "conv", scale: int = 8, stride: int = 1, width: float = 1.0) -> CellChoice:
    return CellChoice(operator, scale, stride, width)


@pytest.mark.parametrize(
    ("branches", "shared_cells", "message"),
    [
        ((), 0, "a branch without cells"),
        (((cell(),), ()), 0, "a branch without cells"),
        (((cell(), cell(scale=16)),), 0, "branch 0, cell 1 reads stride 16 with stride 1, expected to read stride 8"),
        (((cell(stride=4),),), 0, "branch 0, cell 0 reads stride 8 with stride 4"),
        (((cell(stride=2), cell(scale=16, stride=2), cell(scale=32, stride=2)),), 0, "stay within stride 32"),
        (((cell(width=0.0), cell()),), 0, r"branch 0, cell 0 has width 0.0, expected a multiplier in \(0, 1\]"),
        (((cell(), cell(width=0.5)),), 0, "branch 0 ends at width 0.5, expected head_width"),
        (((cell(), cell()), (cell("conv_2x"), cell())), 1, "shared_cells is 1, but the branches do not share"),
        (((cell(), cell()), (cell(), cell())), 2, "shared_cells is 2"),
        (((cell(), cell()),), -1, "shared_cells is -1"),
        (((cell("conv7"),),), 0, "unknown operator 'conv7'"),
    ],
)
def test_branches_that_do_not_chain_up_are_refused(
    branches: tuple[tuple[CellChoice, ...], ...], shared_cells: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Architecture(base_channels=4, stem_width=1.0, head_width=1.0, branches=branches, shared_cells=shared_cells)


def test_all_problems_stand_in_one_message() -> None:
    with pytest.raises(ValueError, match="cell 0 has width 2.0.*cell 1 reads stride 32"):
        Architecture(4, 1.0, 1.0, branches=((cell(width=2.0), cell(scale=32)),))


def without(key: str) -> dict[str, Any]:
    data = released_student().to_dict()
    del data[key]
    return data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "x.json is not an architecture: expected a JSON object with format 'fasterseg-architecture'"),
        ({"format": "other"}, "is not an architecture"),
        ({**released_student().to_dict(), "version": 99}, "version 99, this release reads version 1"),
        (without("branches"), "x.json is not a usable architecture: branches: required"),
        ({**released_student().to_dict(), "base_channels": 0}, "base_channels: got 0"),
        ({**released_student().to_dict(), "base_channels": True}, "base_channels: got True"),
        ({**released_student().to_dict(), "base_channels": float("inf")}, "base_channels: got inf"),
        ({**released_student().to_dict(), "head_width": float("nan")}, "head_width: got nan"),
        ({**released_student().to_dict(), "stem_width": float("inf")}, "stem_width: got inf"),
        (
            {**released_student().to_dict(), "branches": [[{"operator": "conv"}]]},
            "not a usable architecture.*scale: required",
        ),
        ({**released_student().to_dict(), "shared_cells": 30}, "not a usable architecture.*shared_cells is 30"),
    ],
)
def test_unusable_data_names_its_source(data: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Architecture.from_dict(data, "x.json")


def test_absent_file_and_broken_json(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no architecture at .*a\.json; `python -m search search` writes one"):
        Architecture.load(tmp_path / "a.json")
    (tmp_path / "a.json").write_text('{"format": ')
    with pytest.raises(ValueError, match=r"a\.json is not valid JSON"):
        Architecture.load(tmp_path / "a.json")
    (tmp_path / "a.json").write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"a\.json:1: the byte 0xFF is not UTF-8"):
        Architecture.load(tmp_path / "a.json")


def test_the_file_is_versioned_json(tmp_path: Path) -> None:
    released_student().save(tmp_path / "a.json")
    data = json.loads((tmp_path / "a.json").read_text())
    assert (data["format"], data["version"]) == ("fasterseg-architecture", 1)
    assert replace(released_student(), shared_cells=2) != released_student()
