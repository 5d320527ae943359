from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from dataset_tools.__main__ import app
from dataset_tools.description import DatasetDescription, load_description

MakeDataset = Callable[..., DatasetDescription]


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize("command", [("pack",), ("tfrecord", "write"), ("tfrecord", "read")])
def test_help(command: tuple[str, ...]) -> None:
    result = invoke(*command, "--help")
    assert result.exit_code == 0
    assert f"Example: python -m dataset_tools {' '.join(command)}" in result.output
    assert "--dry-run" in result.output


def test_pack(make_dataset: MakeDataset) -> None:
    root = make_dataset().root
    result = invoke("pack", root, "--dry-run")
    assert "would write" in result.output
    assert not (root / "packs").exists()
    result = invoke("pack", root, "--split", "train")
    assert result.exit_code == 0, result.output
    assert [path.name for path in (root / "packs").iterdir()] == ["train.pack"]
    result = invoke("pack", root)
    assert "train.pack is up to date (5 images" in result.output
    assert "val.pack: 2 images" in result.output


def test_tfrecord(make_dataset: MakeDataset, tmp_path: Path) -> None:
    root = make_dataset().root
    assert (
        "would write 2 files with 7 images" in invoke("tfrecord", "write", root, tmp_path / "out", "--dry-run").output
    )
    assert not (tmp_path / "out").exists()
    result = invoke("tfrecord", "write", root, tmp_path / "out", "--images-per-file", "3")
    assert "wrote 3 files with 7 images" in result.output
    result = invoke("tfrecord", "read", tmp_path / "out", tmp_path / "back", "--dry-run")
    assert "train-00001-of-00002.tfrecord: 2 images for the split train" in result.output
    assert not (tmp_path / "back").exists()
    result = invoke("tfrecord", "read", tmp_path / "out", tmp_path / "back", "--name", "again")
    assert "again: 3 classes; images: train 5, val 2" in result.output
    assert load_description(tmp_path / "back").class_names == ("road", "car", "sky")
