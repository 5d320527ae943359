import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from dataset_tools.__main__ import app
from dataset_tools.description import DatasetDescription, load_description
from dataset_tools.labels import CITYSCAPES_LABELS, save_labels
from dataset_tools.masks import read_mask, write_mask
from dataset_tools.pack import plan_pack, write_pack
from fasterseg.base.commandline import run_app

MakeDataset = Callable[..., DatasetDescription]


def invoke(*arguments: str | Path, answer: str | None = None) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=answer)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "command",
    [
        "synthesize", "label-ids", "pull", "split", "clean", "pack", "lists export", "lists import", "tfrecord write",
        "tfrecord read", "check", "browse", "convert camvid",
    ],
)  # fmt: skip
def test_help(command: str) -> None:
    result = invoke(*command.split(), "--help")
    assert result.exit_code == 0
    assert f"Example: python -m dataset_tools {command}" in result.output
    assert ("--dry-run" in result.output) == (command not in ("synthesize", "check"))


def test_synthesize_check_and_label_ids(tmp_path: Path) -> None:
    out = tmp_path / "set"
    result = invoke("synthesize", out, "--train", "3", "--val", "1", "--size", "64x96", "--workers", "1")
    assert result.exit_code == 0, result.output
    assert "wrote 4 new images" in result.output
    assert f"next: python -m dataset_tools check {out}" in result.output
    result = invoke("check", out)
    assert result.exit_code == 0, result.output
    assert "all 4 pairs read" in result.output
    result = invoke("label-ids", "--root", out, "--labels", out / "labels.yaml", "--encoding", "ids")
    assert "wrote 4 masks *_labelIds.png" in result.output
    mask = read_mask(next(out.rglob("*_labelIds.png")))
    assert set(np.unique(mask).tolist()) <= {7, 8, 11, 17, 20, 21, 23, 24, 26}


def test_convert_camvid(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for split in ("train", "val", "test"):
        (source / split).mkdir(parents=True)
        cv2.imwrite(str(source / split / "a.png"), np.zeros((8, 8, 3), np.uint8))
        write_mask(source / f"{split}annot" / "a.png", np.zeros((8, 8), np.uint8))
    result = invoke("convert", "camvid", source, tmp_path / "out", "--copy")
    assert result.exit_code == 0, result.output
    assert "train 1, val 1, test 1" in result.output
    assert "images are copies" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--size", "12x24"), "image_size 12x24"),
        (("--train", "0"), "train_images"),
    ],
)
def test_wrong_settings(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    result = invoke("synthesize", tmp_path / "set", *arguments)
    assert result.exit_code != 0
    assert message in str(result.exception)
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("command", [("synthesize", "set", "--size"), ("check", "set", "--crop")])
@pytest.mark.parametrize("size", ["128", "0x10", "64 64"])
def test_sizes_are_height_x_width(command: tuple[str, ...], size: str) -> None:
    result = invoke(*command, size)
    assert result.exit_code == 2
    assert "expected" in result.output


def test_errors_are_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["dataset_tools", "check", str(tmp_path)])
    with pytest.raises(SystemExit) as exit_info:
        run_app(app)
    assert exit_info.value.code == 2
    assert capsys.readouterr().err.startswith("error: no dataset at")


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
