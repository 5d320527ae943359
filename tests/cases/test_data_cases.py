"""Small sets as other people's tools write them, each through the command that reads it; right values by hand.

Every folder of `data` stands for a kind of fault that was met in the field. What a mask should be is given as the
boxes of its values: (value, first and last column, first and last row, number of pixels).
"""

import shutil
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from dataset_tools.__main__ import app
from dataset_tools.description import load_description
from dataset_tools.masks import read_mask

DATA = Path(__file__).parent / "data"
# The polygon (2, 2) to (12, 10) of most sets in 40 x 24 pixels, by COCO's rule and by labelme's, which has the border.
SQUARE, BORDERED = (2, 11, 2, 9, 80), (2, 12, 2, 10, 99)
# YOLO's shares 0.05..0.3 and 0.1..0.5 of 40 x 24 pixels.
SHARES = (2, 11, 2, 11, 100)

Box = tuple[int, int, int, int, int]


class Case(NamedTuple):
    """A set: the command, options, classes, boxes of each value by mask, and what the command says."""

    folder: str
    command: str
    classes: tuple[str, ...]
    masks: dict[str, dict[int, Box]]
    options: tuple[str, ...] = ()
    said: tuple[str, ...] = ()


CASES = (
    Case(
        "yo02_exif6",
        "yolo",
        ("background", "car"),
        {"train/a": {1: (4, 19, 17, 22, 96)}},
        said=("1 images are stored",),
    ),
    Case("lm02_exif3", "labelme", ("background", "car"), {"train/a": {1: (27, 37, 13, 21, 99)}}),
    Case("lm03_exif6_square", "labelme", ("background", "car"), {"train/a": {1: (2, 8, 11, 29, 133)}}),
    Case("yo02c_mended", "yolo", ("background", "car"), {"train/a": {1: (1, 6, 4, 19, 96)}}),
    Case("yo15_oldtime", "yolo", ("background", "car"), {"train/a": {1: (20, 35, 12, 21, 160)}}),
    Case(
        "vo02_nomask",
        "voc",
        ("Cat", "background", "Dog"),
        {"train/a": {0: (6, 19, 5, 14, 140)}, "train/b": {1: (0, 39, 0, 23, 960)}},
        options=("--unlabelled", "background"),
        said=("left out, images without a mask: all background (--unlabelled background): 1",),
    ),
    Case("lm28_palmask_dark", "labelme", ("background", "car"), {"train/a": {1: (7, 12, 7, 9, 18)}}),
    Case(
        "vo13_palgray",
        "voc",
        ("background", "Cat"),
        {"train/a": {1: (6, 19, 5, 14, 140)}},
        options=("--encoding", "index"),
    ),
    Case(
        "yo01_notest",
        "yolo",
        ("background", "car"),
        {"train/a": {1: SHARES}, "val/a": {1: SHARES}},
        said=("left out, test: ../test/images is not there: 1",),
    ),
    Case(
        "lm11_appledouble",
        "labelme",
        ("background", "car"),
        {"train/a": {1: BORDERED}},
        said=("left out, files that macOS left (._* and __MACOSX): 3",),
    ),
    Case(
        "lm17_otherjson",
        "labelme",
        ("background", "car"),
        {"train/a": {1: BORDERED}},
        said=("left out, JSON files without shapes: 2",),
    ),
    Case(
        "co01_backslash",
        "coco",
        ("background", "car"),
        {"train/images/0": {1: SQUARE}},
        options=("--split", "train=result.json,."),
    ),
    Case("yo06_winpath", "yolo", ("background", "car"), {"train/a": {1: SHARES}}),
    Case("lm07_numlabel", "labelme", ("background", "1", "2"), {"train/a": {1: BORDERED, 2: (20, 30, 2, 10, 99)}}),
    Case("co05_strid", "coco", ("background", "car", "bus"), {"train/a": {1: SQUARE}}),
    Case(
        "co08_rootcat",
        "coco",
        ("background", "car"),
        {"train/a_jpg.rf.0": {1: SQUARE}, "val/a_jpg.rf.1": {1: SQUARE}},
        said=("no classes: 'car'",),
    ),
    Case(
        "yo14_dupnames", "yolo", ("background", "car"), {"train/a": {1: SHARES}}, said=("'car' are one class (0, 1)",)
    ),
    Case(
        "bd01_mismatch",
        "bdd100k",
        (),
        {"train/a": {}, "val/a": {}},
        options=("--unmatched", "skip"),
        said=("images without a mask (--unmatched skip): 2", "masks without an image (--unmatched skip): 2"),
    ),
    Case(
        "ci02_extra",
        "cityscapes",
        (),
        {"train/aachen/aachen_train_000000": {}, "val/aachen/aachen_val_000000": {}},
        options=("--unmatched", "skip"),
        said=("images without a mask (--unmatched skip): 1",),
    ),
    Case("yo04e_yesno", "yolo", ("background", "yes", "no"), {"train/a": {2: SHARES}}),
    Case("yo04f_num", "yolo", ("background", "010", "1_000", "1e3", "0.50", "null", "12:30"), {"train/a": {2: SHARES}}),
    Case(
        "fo12_utf16",
        "folders",
        ("background", "car"),
        {"train/a": {1: (6, 19, 5, 14, 140)}},
        options=("--labels", "{}/labels.csv"),
    ),
    Case("lm14b_sizestr", "labelme", ("background", "car"), {"train/a": {1: BORDERED}}),
    Case("co06_strsize", "coco", ("background", "car", "bus"), {"train/a": {1: SQUARE}}),
)


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "400"})


def boxes_of(mask: Path) -> dict[int, Box]:
    """The box and the number of pixels of each value of a mask."""
    ids, boxes = read_mask(mask), {}
    for value in np.unique(ids).tolist():
        rows, columns = np.nonzero(ids == value)
        boxes[value] = (int(columns.min()), int(columns.max()), int(rows.min()), int(rows.max()), len(rows))
    return boxes


def masks_of(out: Path) -> dict[str, dict[int, Box]]:
    """The same of every mask of a dataset, by split and name."""
    found = {}
    for split, samples in load_description(out).splits.items():
        for sample in samples:
            assert sample.image.is_file()
            assert sample.mask is not None
            name = sample.mask.relative_to(out / "masks" / split).with_suffix("").as_posix()
            found[f"{split}/{name}"] = boxes_of(sample.mask)
    return found


@pytest.mark.parametrize("case", CASES, ids=[case.folder for case in CASES])
def test_converted_as_it_should_be(case: Case, tmp_path: Path) -> None:
    options = [option.format(DATA / case.folder) for option in case.options]
    result = invoke("convert", case.command, DATA / case.folder, tmp_path / "out", *options)
    assert result.exit_code == 0, result.output
    for text in case.said:
        assert text in result.output
    found = masks_of(tmp_path / "out")
    assert found.keys() == case.masks.keys()
    for name, boxes in case.masks.items():
        assert boxes.items() <= found[name].items(), found[name]
    if case.classes:
        assert load_description(tmp_path / "out").class_names == case.classes


@pytest.mark.parametrize(
    ("folder", "command", "said"),
    [
        ("vo13_palgray", "voc", "no colour for the indices 1"),
        ("vo02_nomask", "voc", "--unlabelled background"),
        ("bd01_mismatch", "bdd100k", "--unmatched skip"),
        ("ci02_extra", "cityscapes", "--unmatched skip"),
    ],
)
def test_refused_with_the_way_out(folder: str, command: str, said: str, tmp_path: Path) -> None:
    result = invoke("convert", command, DATA / folder, tmp_path / "out")
    assert result.exit_code != 0
    assert said in str(result.exception) + result.output


def test_a_source_image_that_was_turned_gets_a_new_mask(tmp_path: Path) -> None:
    shutil.copytree(DATA / "yo02_exif6", tmp_path / "set")
    assert invoke("convert", "yolo", tmp_path / "set", tmp_path / "out").exit_code == 0
    assert masks_of(tmp_path / "out")["train/a"][1] == (4, 19, 17, 22, 96)
    shutil.copy2(DATA / "yo02c_mended/images/train/a.jpg", tmp_path / "set/images/train/a.jpg")
    assert "made 1 masks" in invoke("convert", "yolo", tmp_path / "set", tmp_path / "out").output
    assert masks_of(tmp_path / "out")["train/a"][1] == (1, 6, 4, 19, 96)
    assert "kept 1" in invoke("convert", "yolo", tmp_path / "set", tmp_path / "out").output


def test_a_list_in_utf_16_is_read() -> None:
    samples = load_description(DATA / "ds02_utf16list").samples("train")
    assert [(sample.image.name, sample.mask and sample.mask.is_file()) for sample in samples] == [("a.png", True)]


def test_names_of_records_keep_their_dots(tmp_path: Path) -> None:
    pytest.importorskip("tfrecord", reason="needs the extra tfrecord")
    result = invoke("tfrecord", "read", DATA / "tf10_dots", tmp_path / "out")
    assert result.exit_code == 0, result.output + str(result.exception)
    samples = load_description(tmp_path / "out").samples("train")
    assert [sample.image.name for sample in samples] == ["scene.0001.jpg", "scene.0002.jpg"]


def files_below(folder: Path) -> list[str]:
    """Names of the files of a folder, less our own marks."""
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    return sorted(name for name in names if not name.startswith("made_"))


def test_archives_of_other_systems(tmp_path: Path) -> None:
    mac = invoke("pull", DATA / "pu01/mac.zip", tmp_path / "mac")
    assert files_below(tmp_path / "mac") == ["ds/.DS_Store", "ds/images/a.jpg"]
    assert "(._* and __MACOSX): 2" in mac.output
    assert invoke("pull", DATA / "pu01/win.zip", tmp_path / "win").exit_code == 0
    assert files_below(tmp_path / "win") == ["ds/images/a.jpg", "ds/übung.txt"]
    with zipfile.ZipFile(DATA / "pu01/win.zip") as archive:
        assert (tmp_path / "win/ds/images/a.jpg").read_bytes() == archive.read("ds\\images\\a.jpg")
