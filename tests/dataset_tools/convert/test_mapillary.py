import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dataset_tools.convert.mapillary import read_mapillary

LABELS = [
    {"name": "animal--bird", "readable": "Bird", "color": [165, 42, 42], "evaluate": True, "instances": True},
    {"name": "construction--flat--road", "readable": "Road", "color": [128, 64, 128], "evaluate": True},
    {"name": "nature--sky", "readable": "Sky", "color": [70, 130, 180], "evaluate": True},
    {"name": "void--unlabeled", "readable": "Unlabeled", "color": [0, 0, 0], "evaluate": False},
]
STORED = [[2, 2, 2, 2, 2, 2], [2, 2, 0, 0, 2, 2], [1, 1, 1, 1, 1, 1], [3, 3, 3, 3, 3, 3]]


@pytest.fixture
def source(tmp_path: Path, picture: Callable[..., Path], grey: Callable[..., Path]) -> Path:
    root = tmp_path / "vistas"
    for version, labels in (("v1.2", LABELS), ("v2.0", [*LABELS[1:], LABELS[0]])):
        root.mkdir(exist_ok=True)
        (root / f"config_{version}.json").write_text(json.dumps({"labels": labels, "version": version[1:]}))
        for split in ("training", "validation"):
            palette = [tuple(label["color"]) for label in labels]
            grey(root / split / version / "labels" / "x9.png", STORED, palette)
    for split in ("training", "validation", "testing"):
        picture(root / split / "images" / "x9.jpg")
    return root


def test_indices_of_a_palette_mask(source: Path, convert: Callable[..., Any]) -> None:
    dataset = read_mapillary(source, version="v1.2")
    assert dataset.classes == (("Bird", "Road", "Sky"), ((165, 42, 42), (128, 64, 128), (70, 130, 180)), (0, 1, 2))
    assert dataset.skipped == {"labels that are ignored because they are not evaluated: Unlabeled": 1}
    expected = [[2] * 6, [2, 2, 0, 0, 2, 2], [1] * 6, [255] * 6]
    assert convert(dataset) == {"train": {"x9": expected}, "val": {"x9": expected}, "test": {"x9": None}}


def test_version_2_has_its_own_labels_and_classes_can_be_ignored(source: Path, convert: Callable[..., Any]) -> None:
    dataset = read_mapillary(source, ignore=["Sky"])
    assert dataset.classes.names == ("Road", "Bird")
    # Value 0 is Road, 1 Sky, 2 Unlabeled, 3 Bird there.
    assert convert(dataset)["val"]["x9"] == [[255] * 6, [255, 255, 0, 0, 255, 255], [255] * 6, [1] * 6]


def test_all_labels(source: Path, convert: Callable[..., Any]) -> None:
    assert convert(read_mapillary(source, version="v1.2", all_labels=True))["train"]["x9"] == STORED


def test_names_that_repeat_are_taken_in_full(source: Path) -> None:
    labels = [{**label, "readable": "Thing"} for label in LABELS]
    (source / "config_v1.2.json").write_text(json.dumps({"labels": labels}))
    assert read_mapillary(source, version="v1.2").classes.names[0] == "animal--bird"


def test_wrong_sources(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no class is named 'Roda' \(--ignore\)(.|\n)*Bird"):
        read_mapillary(source, ignore=["Roda"])
    (source / "training" / "v2.0" / "labels" / "x9.png").unlink()
    with pytest.raises(ValueError, match=r"no mask for .*x9\.jpg"):
        read_mapillary(source)
    (source / "config_v2.0.json").write_text('{"labels": [{"name": "a"}]}')
    with pytest.raises(ValueError, match="no configuration of Vistas"):
        read_mapillary(source)
    (source / "config_v2.0.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"config_v2\.0\.json not found"):
        read_mapillary(source)
