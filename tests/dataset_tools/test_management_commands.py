import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from dataset_tools.__main__ import app
from dataset_tools.description import DatasetDescription, load_description
from dataset_tools.labels import CITYSCAPES_LABELS, save_labels
from dataset_tools.pack import plan_pack, write_pack

MakeDataset = Callable[..., DatasetDescription]


def invoke(*arguments: str | Path, answer: str | None = None) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=answer)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("command", [("pull",), ("split",), ("clean",), ("lists", "export"), ("lists", "import")])
def test_help(command: tuple[str, ...]) -> None:
    result = invoke(*command, "--help")
    assert result.exit_code == 0
    assert f"Example: python -m dataset_tools {' '.join(command)}" in result.output
    assert "--dry-run" in result.output


def test_split_shows_before_it_writes(make_dataset: MakeDataset) -> None:
    root = make_dataset(train=7, val=3).root
    before = contents(root)
    command = ("split", root, "--ratios", "train=0.5,val=0.3,test=0.2", "--seed", "4", "--stratify")
    result = invoke(*command, "--dry-run")
    assert result.exit_code == 0, result.output
    for expected in ("part of the images", "50.0%", "30.0%", "20.0%", "road", "nothing was written"):
        assert expected in result.output
    assert contents(root) == before
    result = invoke(*command)
    assert result.exit_code == 0, result.output
    assert "previous_dataset.yaml" in result.output
    sizes = {split: len(samples) for split, samples in load_description(root).splits.items()}
    assert sizes == {"train": 5, "val": 3, "test": 2}


def test_split_names_what_is_wrong(make_dataset: MakeDataset) -> None:
    root = make_dataset(train=2, val=1).root
    assert "cannot be divided" in str(invoke("split", root, "--group-by", "^street").exception)
    assert "add up to 0.9" in str(invoke("split", root, "--ratios", "a=0.5,b=0.4").exception)
    assert "has no split 'x'" in str(invoke("split", root, "--from", "x").exception)


def test_lists_out_and_in(make_dataset: MakeDataset, tmp_path: Path) -> None:
    root = make_dataset(train=3, val=1).root
    result = invoke("lists", "export", root)
    assert result.exit_code == 0, result.output
    assert "train_val_mapping_list.txt: 4 lines" in result.output
    (root / "dataset.yaml").unlink()
    save_labels(tmp_path / "labels.yaml", CITYSCAPES_LABELS)
    command = ("lists", "import", root, "train=train_mapping_list.txt", f"val={root / 'val_mapping_list.txt'}")
    result = invoke(*command, "--labels", tmp_path / "labels.yaml", "--dry-run")
    assert "would write" in result.output
    assert not (root / "dataset.yaml").exists()
    result = invoke(*command, "--labels", tmp_path / "labels.yaml", "--name", "mine")
    assert "mine: 19 classes; images: train 3, val 1" in result.output
    assert load_description(root).name == "mine"
    for wrong in ("train", "=x", "a/b=x", "train="):
        assert "expected SPLIT=LIST" in str(invoke("lists", "import", root, wrong).exception)


def test_clean_asks(make_dataset: MakeDataset) -> None:
    description = make_dataset()
    assert "nothing to remove" in invoke("clean", description.root).output
    write_pack(description, plan_pack(description, "train"), progress=False)
    before = contents(description.root)
    result = invoke("clean", description.root, "--dry-run")
    assert "train.pack" in result.output
    assert "would remove 1 files" in result.output
    for answer in ("n\n", "", "\n"):
        assert invoke("clean", description.root, answer=answer).exit_code == 1
    assert contents(description.root) == before
    assert "removed 1 files" in invoke("clean", description.root, answer="y\n").output
    assert not (description.root / "packs").exists()
    write_pack(description, plan_pack(description, "train"), progress=False)
    assert invoke("clean", description.root, "--yes").exit_code == 0
    assert not (description.root / "packs").exists()


def test_pull(tmp_path: Path) -> None:
    archive = tmp_path / "my set.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("two\nlines.png", b"x")
    result = invoke("pull", archive, tmp_path / "out", "--dry-run")
    assert "would write 1 files" in result.output
    assert not (tmp_path / "out").exists()
    result = invoke("pull", archive, tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert f"from {archive} to {tmp_path / 'out'}" in result.output
    assert "already holds" in invoke("pull", archive, tmp_path / "out").output
    assert "out of proportion" in str(
        invoke("pull", archive, tmp_path / "small", "--max-gib", "0.0000000001", "--max-ratio", "1").exception
    )
