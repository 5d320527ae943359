import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dataset_tools.convert.output import OutputOptions, write_dataset
from dataset_tools.convert.painting import ShapeOptions
from dataset_tools.convert.yolo import read_yolo

DATA = "path: ../datasets/mine\ntrain: images/train\nval: images/val\nnames:\n  0: car\n  1: traffic light\n"
# 4x6 pixels: the left half, and columns 1..3 of rows 1..2.
LEFT_HALF = "0 0 0 0.5 0 0.5 1 0 1\n"
MIDDLE = "1 0.16666667 0.25 0.66666667 0.25 0.66666667 0.75 0.16666667 0.75\n"


@pytest.fixture
def root(tmp_path: Path, picture: Callable[..., Path]) -> Path:
    root = tmp_path / "yolo"
    for split in ("train", "val"):
        picture(root / "images" / split / "a.jpg")
        (root / "labels" / split).mkdir(parents=True)
        (root / "labels" / split / "a.txt").write_text(LEFT_HALF + MIDDLE)
    (root / "data.yaml").write_text(DATA)
    return root


def label(root: Path, text: str) -> Path:
    (root / "labels" / "train" / "a.txt").write_text(text)
    return root


def failing(root: Path, tmp_path: Path, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_dataset(read_yolo(root), tmp_path / "out", OutputOptions(progress=False))


def test_polygons(root: Path, convert: Callable[..., Any]) -> None:
    dataset = read_yolo(root)
    assert dataset.classes.names == ("background", "car", "traffic light")
    # The smaller object is seen where they overlap.
    expected = [[1, 1, 1, 0, 0, 0], [1, 2, 2, 2, 0, 0], [1, 2, 2, 2, 0, 0], [1, 1, 1, 0, 0, 0]]
    assert convert(dataset) == {"train": {"a": expected}, "val": {"a": expected}}


def test_order_and_background_are_options(root: Path, convert: Callable[..., Any]) -> None:
    dataset = read_yolo(root, options=ShapeOptions("reversed", "ignore", skip=()))
    assert convert(dataset)["train"]["a"][1] == [0, 0, 0, 1, 255, 255]


def test_boxes(root: Path, tmp_path: Path, convert: Callable[..., Any]) -> None:
    label(root, "0 0.5 0.5 0.33333333 0.5\n")
    failing(root, tmp_path, r"a\.txt:1: a box, no polygon; .*--boxes")
    assert convert(read_yolo(root, boxes="paint"))["train"]["a"] == [
        [0] * 6,
        [0, 0, 1, 1, 0, 0],
        [0, 0, 1, 1, 0, 0],
        [0] * 6,
    ]
    done = write_dataset(read_yolo(root, boxes="skip"), tmp_path / "skipped", OutputOptions(progress=False))
    assert done.skipped == {"boxes (--boxes skip)": 1}


def test_a_missing_label_file_is_no_background_unasked(root: Path, convert: Callable[..., Any]) -> None:
    (root / "labels" / "val" / "a.txt").unlink()
    with pytest.raises(ValueError, match=r"no label file for .*val/a\.jpg(.|\n)*--unlabelled background"):
        read_yolo(root)
    assert convert(read_yolo(root, unlabelled="background"))["val"]["a"] == [[0] * 6] * 4


def test_lists_of_images_and_exports(
    root: Path, tmp_path: Path, picture: Callable[..., Path], convert: Callable[..., Any]
) -> None:
    picture(root / "images" / "b c.jpg")
    (root / "labels" / "b c.txt").write_text(LEFT_HALF)
    (root / "train.txt").write_text("./images/train/a.jpg\n./images/b c.jpg\n")
    # The list of names, and a folder one too high, as some exports have it.
    (root / "data.yaml").write_text("train: train.txt\nval: ../images/val\nnames: [car, traffic light]\n")
    masks = convert(read_yolo(root))
    assert set(masks["train"]) == {"a", "b c"}
    assert set(masks["val"]) == {"a"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2 0 0 0.5 0 0.5 1\n", r"a\.txt:1: class 2 is none of the names"),
        ("0 0 0 320 0 320 240\n", r"coordinates 0\.\.320, expected shares .* pixels"),
        ("0 0 0 nan 0 0.5 1\n", "expected shares"),
        ("0 0 0 0.5 0 0.5\n", "5 coordinates"),
        ("0 0 0\n", "2 coordinates"),
        ("car 0 0 0.5 0 0.5 1\n", "expected a class and coordinates"),
        (LEFT_HALF + "0 0 0 x 0 0.5 1\n", r"a\.txt:2: "),
    ],
)
def test_bad_labels(root: Path, tmp_path: Path, text: str, message: str) -> None:
    failing(label(root, text), tmp_path, message)


def test_bad_data_files(root: Path) -> None:
    for text, message in (
        ("names: 3\ntrain: images/train\n", "names must be a list"),
        ("names: [a\n", "not valid YAML"),
    ):
        (root / "data.yaml").write_text(text)
        with pytest.raises(ValueError, match=message):
            read_yolo(root)
    (root / "data.yaml").write_text("names: [a]\ntrain: nowhere\n")
    with pytest.raises(FileNotFoundError, match="nowhere not found; looked for"):
        read_yolo(root)
    (root / "data.yaml").rename(root / "data.txt")
    with pytest.raises(FileNotFoundError, match="found none; give it with --data"):
        read_yolo(root)


@pytest.mark.parametrize("test", ["../test/images", "lists/test.txt", "[gone/a, gone/b]"])
def test_a_test_set_that_was_not_exported_is_left_out(test: str, root: Path) -> None:
    (root / "data.yaml").write_text(DATA + f"test: {test}\n")
    dataset = read_yolo(root)
    assert set(dataset.splits) == {"train", "val"}
    assert sum(dataset.skipped.values()) == (2 if test.startswith("[") else 1)
    (root / "data.yaml").write_text(DATA.replace("images/val", "images/gone"))
    with pytest.raises(FileNotFoundError, match="images/gone not found"):
        read_yolo(root)


def test_a_set_without_any_label_file_is_another_form(root: Path) -> None:
    for split in ("train", "val"):
        (root / "labels" / split / "a.txt").unlink()
    with pytest.raises(ValueError, match=r"not one image has a label file.*convert folders"):
        read_yolo(root, unlabelled="background")
    (root / "data.yaml").write_text(DATA + "masks_dir: masks\n")
    with pytest.raises(ValueError, match="has masks_dir: its masks hold pixels"):
        read_yolo(root, unlabelled="background")


def test_images_without_labels_can_be_left_out(root: Path) -> None:
    (root / "labels" / "val" / "a.txt").unlink()
    dataset = read_yolo(root, unmatched="skip")
    assert dataset.skipped == {"images without a label file (--unmatched skip)": 1}
    assert set(dataset.splits) == {"train"}


@pytest.mark.parametrize(
    "written", ["on", "off", "Yes", "TRUE", "0x1F", "1_0", "2024-01-31", "1:30:00", ".inf", "~", "=", "+7", "'010'"]
)
def test_names_are_as_they_are_written(written: str, root: Path) -> None:
    (root / "data.yaml").write_text(f"train: images/train\nnames:\n  0: {written}\n  1: 'x y'\n")
    assert read_yolo(root).classes.names == ("background", written.strip("'"), "x y")


@pytest.mark.parametrize("names", ["[a, [b]]", "{0: a, 1: ''}", "{0: a, 00: b}", "{one: a}", "a", "[a, '  ']"])
def test_names_that_are_none(names: str, root: Path) -> None:
    (root / "data.yaml").write_text(f"train: images/train\nnames: {names}\n")
    with pytest.raises(ValueError, match=r"data\.yaml: names "):
        read_yolo(root)


def test_classes_written_as_decimals(root: Path, tmp_path: Path, convert: Callable[..., Any]) -> None:
    assert (
        convert(read_yolo(label(root, LEFT_HALF.replace("0", "0.000000", 1))))["train"]["a"] == [[1, 1, 1, 0, 0, 0]] * 4
    )
    label(root, "0.5 0 0 0.5 0 0.5 1 0 1\n")
    failing(root, tmp_path, r"a\.txt:1: class 0\.5 is none of the names")


@pytest.mark.parametrize("train", ["images\\train", ".\\images\\train", "..\\yolo\\images\\train", "train.txt"])
def test_backslashes_of_windows(train: str, root: Path, convert: Callable[..., Any]) -> None:
    (root / "train.txt").write_text(".\\images\\train\\a.jpg\r\n")
    (root / "data.yaml").write_text(f"path: C:\\Users\\me\ntrain: {train}\nnames: [car, traffic light]\n")
    assert convert(read_yolo(root))["train"]["a"][0] == [1, 1, 1, 0, 0, 0]


def test_files_of_macos_are_no_data(root: Path, convert: Callable[..., Any]) -> None:
    for name in ("._data.yaml", "images/train/._a.jpg", "images/train/__MACOSX/a.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"Mac OS X")
    assert list(convert(read_yolo(root))["train"]) == ["a"]


@pytest.mark.parametrize("line", ["0 0.5 0.5\n", "0\n", "1 0 0\n"])
def test_outlines_without_an_area_can_be_left_out(
    line: str, root: Path, tmp_path: Path, convert: Callable[..., Any]
) -> None:
    label(root, line + LEFT_HALF)
    failing(root, tmp_path, r"a\.txt:1: \d coordinates, expected x and y of 3 or more corners")
    dataset = read_yolo(root, options=ShapeOptions("area", degenerate="skip"))
    assert convert(dataset)["train"]["a"] == [[1, 1, 1, 0, 0, 0]] * 4
    mask = dataset.splits["train"][0].mask
    assert mask is not None
    assert mask.paint((4, 6)).skipped == {"outlines of fewer than 3 corners (--degenerate skip)": 1}


def png(bits: int, kind: int, rows: list[bytes], palette: bytes = b"") -> bytes:
    """A PNG of 6 columns, byte by byte; each row begins with its filter, 0."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 6, len(rows), bits, kind, 0, 0, 0)
    parts = [chunk(b"IHDR", header), *([chunk(b"PLTE", palette)] if palette else [])]
    parts += [chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.fixture
def semantic(root: Path) -> Path:
    """A semantic set: ids 0, 2 and 5, and 255; train is grey of 8 bits, val a palette image of 4 bits."""
    grey = [b"\0\0\2\2\5\5", b"\0\0\2\2\5\xff", b"\5\5\5\5\5\xff", b"\xff\xff\0\0\0\0"]
    colours = [b"\x00\x22\x55"] * 3 + [b"\x52\x05\x20"]
    for split, data in (("train", png(8, 0, grey)), ("val", png(4, 3, colours, bytes(range(18))))):
        place = root / "segmentation" / "masks" / split / "a.png"
        place.parent.mkdir(parents=True)
        place.write_bytes(data)
    names = "names: {5: tree, 0: road, 2: car}\n"
    (root / "data.yaml").write_text(f"train: images/train\nval: images/val\nmasks_dir: segmentation/masks\n{names}")
    return root


def test_semantic_sets(semantic: Path, convert: Callable[..., Any]) -> None:
    dataset = read_yolo(semantic)
    # Train ids in the order of the numbers; no background is added, and nothing is read of the polygons beside.
    assert dataset.classes[::2] == (("road", "car", "tree"), (0, 2, 5))
    assert convert(dataset) == {
        "train": {"a": [[0, 0, 1, 1, 2, 2], [0, 0, 1, 1, 2, 255], [2, 2, 2, 2, 2, 255], [255, 255, 0, 0, 0, 0]]},
        "val": {"a": [[0, 0, 1, 1, 2, 2]] * 3 + [[2, 1, 0, 2, 1, 0]]},
    }


def test_semantic_sets_take_their_options_alone(semantic: Path, convert: Callable[..., Any]) -> None:
    ignored = read_yolo(semantic, options=ShapeOptions("area", ignore=("car",)))
    assert convert(ignored)["val"]["a"][3] == [1, 255, 0, 1, 255, 0]
    for options in (ShapeOptions("file"), ShapeOptions("area", "ignore"), ShapeOptions("area", skip=("car",))):
        with pytest.raises(ValueError, match="--ignore and --unmatched alone"):
            read_yolo(semantic, options=options)
    with pytest.raises(ValueError, match="--ignore and --unmatched alone"):
        read_yolo(semantic, boxes="skip")


def test_semantic_masks_that_are_missing_or_foreign(semantic: Path, tmp_path: Path) -> None:
    mask = semantic / "segmentation" / "masks" / "val" / "a.png"
    mask.write_bytes(png(8, 0, [b"\0\0\0\0\0\7"] * 4))
    failing(semantic, tmp_path, r"val/a\.png holds unknown values: 7 \(4 pixels\); known are \[0, 2, 5, 255\]")
    mask.unlink()
    failing(semantic, tmp_path, r"no mask for .*images/val/a\.jpg: .*segmentation/masks/val/a\.png is missing")
    dataset = read_yolo(semantic, unmatched="skip")
    assert (set(dataset.splits), dataset.skipped) == ({"train"}, {"images without a mask (--unmatched skip)": 1})
    with (semantic / "data.yaml").open("a") as file:
        file.write("label_mapping: {7: 0}\n")
    failing(semantic, tmp_path, "label_mapping is not read")
