from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from dataset_tools.__main__ import app, main
from dataset_tools.masks import read_mask, write_mask


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize(
    "command", [(), ("synthesize",), ("convert",), ("convert", "camvid"), ("label-ids",), ("check",)]
)
def test_help(command: tuple[str, ...]) -> None:
    result = invoke(*command, "--help")
    assert result.exit_code == 0
    if command and command != ("convert",):
        assert "Example: python -m dataset_tools" in result.output


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
        (("--size", "128"), "expected HEIGHTxWIDTH"),
        (("--size", "12x24"), "image_size 12x24"),
        (("--train", "0"), "train_images"),
    ],
)
def test_wrong_settings(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    result = invoke("synthesize", tmp_path / "set", *arguments)
    assert result.exit_code != 0
    assert message in str(result.exception)
    assert not (tmp_path / "set").exists()


def test_errors_are_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["dataset_tools", "check", str(tmp_path)])
    with pytest.raises(SystemExit) as exit_info:
        main()
    assert exit_info.value.code == 2
    assert capsys.readouterr().err.startswith("error: no dataset at")
