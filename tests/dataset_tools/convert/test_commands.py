from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from dataset_tools.__main__ import app
from dataset_tools.description import load_description

FORMATS = (
    "cityscapes", "camvid", "bdd100k", "mapillary", "coco", "labelme", "voc", "yolo", "folders", "fasterseg"
)  # fmt: skip
LABELS = "name,id,trainId,color_r,color_g,color_b\nroad,1,0,9,9,9\nvoid,0,255,0,0,0\n"


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["convert", *map(str, arguments)], env={"COLUMNS": "200"})


@pytest.fixture
def folders(tmp_path: Path, picture: Callable[..., Path], grey: Callable[..., Path]) -> list[str | Path]:
    """Arguments that convert a tiny set of plain folders whose name holds a space."""
    picture(tmp_path / "my set" / "images" / "it's a.jpg", (1, 2))
    grey(tmp_path / "my set" / "masks" / "it's a.png", [[1, 0]])
    (tmp_path / "labels.csv").write_text(LABELS)
    return ["folders", tmp_path / "my set", tmp_path / "my out", "--labels", tmp_path / "labels.csv"]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_explains_itself(name: str) -> None:
    result = invoke(name, "--help")
    assert result.exit_code == 0
    for expected in ("Example: python -m dataset_tools convert", "--dry-run", "--copy", "only read"):
        assert expected in result.output


def test_says_what_was_done_and_what_is_next(folders: list[str | Path], tmp_path: Path) -> None:
    result = invoke(*folders)
    assert result.exit_code == 0, result.output
    for expected in (
        "my set: 1 classes; images: train 1",
        "made 1 masks",
        "images are links to the source",
        "nothing was left out",
        f"next: python -m dataset_tools check '{tmp_path}/my out'",
    ):
        assert expected in result.output
    assert "kept 1 of an earlier run" in invoke(*folders).output
    assert load_description(tmp_path / "my out").samples("train")[0].image.stem == "it's a"


def test_dry_run(folders: list[str | Path], tmp_path: Path) -> None:
    result = invoke(*folders, "--dry-run")
    for expected in ("would make 1 masks", "nothing was written (--dry-run)", "next: the same command without"):
        assert expected in result.output
    assert not (tmp_path / "my out").exists()


def test_what_was_left_out_is_said(folders: list[str | Path], tmp_path: Path, picture: Callable[..., Path]) -> None:
    picture(tmp_path / "my set" / "images" / "b.jpg", (1, 2))
    assert "no mask for" in str(invoke(*folders).exception)
    result = invoke(*folders, "--unmatched", "skip", "--copy")
    assert "left out, images without a mask (--unmatched skip): 1" in result.output
    assert "images are copies" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("coco", "--split", "train"), "expected NAME=ANNOTATIONS.json,IMAGES"),
        (
            ("coco", "--panoptic", "--order", "class"),
            "--panoptic takes no --skip, --order, --background or",
        ),
    ],
)
def test_wrong_options(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    name, *options = arguments
    result = invoke(name, tmp_path / "source", tmp_path / "out", *options)
    assert result.exit_code != 0
    assert message in str(result.exception)
