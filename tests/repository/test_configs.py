"""Every experiment file that comes with the project is valid as a whole and opens with its command."""

from pathlib import Path

import pytest

from fasterseg.base.experiment import load_experiment
from pipeline import SECTIONS

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs").glob("*.yaml"))


def test_there_are_some() -> None:
    assert {"toy.yaml", "camvid.yaml", "cityscapes.yaml"} <= {path.name for path in CONFIGS}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_it_is_valid_and_says_how_it_is_run(path: Path) -> None:
    written = {name: section for name, section in SECTIONS.items() if f"\n{name}:" in path.read_text()}
    load_experiment(path, [], written)
    assert "python " in path.read_text().split("\nname:")[0] or "make " in path.read_text().split("\nname:")[0]
