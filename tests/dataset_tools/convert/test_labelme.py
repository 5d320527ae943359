import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dataset_tools.convert.labelme import LineWidths, read_labelme
from dataset_tools.convert.output import OutputOptions, write_dataset
from dataset_tools.convert.painting import ShapeOptions

HEIGHT, WIDTH = 7, 8


def shape(kind: str | None, points: Any, label: str = "car", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}, **more}


def png_in_base64(rows: list[list[int]]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(np.array(rows, np.uint8)).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.fixture
def write(tmp_path: Path, picture: Callable[..., Path]) -> Callable[..., Path]:
    def build(*shapes: dict[str, Any], name: str = "a", **more: Any) -> Path:
        root = tmp_path / "labelme"
        picture(root / f"{name}.jpg", (HEIGHT, WIDTH))
        content = {
            "version": "5.5.0",
            "flags": {},
            "shapes": list(shapes),
            "imagePath": f"{Path(name).name}.jpg",
            "imageData": None,
            "imageHeight": HEIGHT,
            "imageWidth": WIDTH,
            **more,
        }
        (root / f"{name}.json").write_text(json.dumps(content))
        return root

    return build


def rows(*texts: str) -> list[list[int]]:
    """A mask drawn with `.` for the background and digits for the classes."""
    return [[0 if char == "." else 255 if char == "#" else int(char) for char in text] for text in texts]


SHAPES = {
    # Corners are rounded, and the border belongs to the shape.
    "polygon": (shape("polygon", [[1.2, 0.8], [3.4, 1.1], [3, 3], [1, 3]]), {}, (1, 3, 1, 3)),
    "no type": (shape(None, [[1, 1], [3, 1], [3, 3], [1, 3]]), {}, (1, 3, 1, 3)),
    "rectangle": (shape("rectangle", [[5, 4], [2, 1]]), {}, (1, 4, 2, 5)),
    "oriented_rectangle": (shape("oriented_rectangle", [[0, 0], [2, 0], [2, 1], [0, 1]]), {}, (0, 1, 0, 2)),
    "mask": (shape("mask", [[2, 3], [4, 4]], mask=png_in_base64([[255] * 3] * 2)), {}, (3, 4, 2, 4)),
    "mask beyond the edge": (shape("mask", [[6, -1], [8, 0]], mask=png_in_base64([[1] * 3] * 2)), {}, (0, 0, 6, 7)),
    "line": (shape("line", [[2, 3], [5, 3]]), {"line_width_px": 1}, (3, 3, 2, 5)),
    "line of two pixels": (shape("line", [[2, 3], [5, 3]]), {"line_width_px": 2}, (3, 4, 2, 5)),
    "line thinner than a pixel": (shape("line", [[2, 3], [5, 3]]), {"line_width_px": 0.2}, (3, 3, 2, 5)),
    "point without extent": (shape("point", [[3, 4]]), {"point_radius_px": 0}, (4, 4, 3, 3)),
}


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_that_fill_a_box(write: Callable[..., Path], convert: Callable[..., Any], name: str) -> None:
    drawn, widths, (top, bottom, left, right) = SHAPES[name]
    expected = np.zeros((HEIGHT, WIDTH), int)
    expected[top : bottom + 1, left : right + 1] = 1
    dataset = read_labelme(write(drawn), widths=LineWidths(**widths))
    assert dataset.classes.names == ("background", "car")
    assert convert(dataset) == {"train": {"a": expected.tolist()}}


@pytest.mark.parametrize("kind", ["circle", "point"])
def test_discs_are_those_of_labelmes_own_shape_to_mask(
    write: Callable[..., Path], convert: Callable[..., Any], kind: str
) -> None:
    drawn = shape(kind, [[3, 3], [3, 5]] if kind == "circle" else [[3, 3]])
    masks = convert(read_labelme(write(drawn), widths=LineWidths(point_radius_px=2)))
    assert masks["train"]["a"] == rows(
        "........", "..111...", ".11111..", ".11111..", ".11111..", "..111...", "........"
    )


def test_line_strips_turn(write: Callable[..., Path], convert: Callable[..., Any]) -> None:
    strip = shape("linestrip", [[1, 1], [4, 1], [4, 4]])
    masks = convert(read_labelme(write(strip), widths=LineWidths(line_width_px=1)))
    assert masks["train"]["a"] == rows(
        "........", ".1111...", "....1...", "....1...", "....1...", "........", "........"
    )


def test_masks_hold_their_own_pixels(write: Callable[..., Path], convert: Callable[..., Any]) -> None:
    drawn = shape("mask", [[1, 1], [3, 2]], mask=png_in_base64([[1, 0, 1], [0, 1, 0]]))
    assert convert(read_labelme(write(drawn)))["train"]["a"] == rows(
        "........", ".1.1....", "..1.....", "........", "........", "........", "........"
    )


def test_later_shapes_are_seen_and_special_labels_known(
    write: Callable[..., Path], convert: Callable[..., Any]
) -> None:
    root = write(
        shape("rectangle", [[0, 0], [7, 2]], "sky"),
        shape("rectangle", [[0, 1], [3, 3]], "car"),
        shape("rectangle", [[0, 0], [0, 0]], "__ignore__"),
        shape("rectangle", [[3, 3], [3, 3]], "_background_"),
    )
    dataset = read_labelme(root)
    assert dataset.classes.names == ("_background_", "car", "sky")
    assert convert(dataset)["train"]["a"] == rows(
        "#2222222", "11112222", "11112222", "111.....", "........", "........", "........"
    )


def test_order_and_names_are_the_users(write: Callable[..., Path], convert: Callable[..., Any]) -> None:
    root = write(shape("rectangle", [[0, 0], [1, 1]], "car"), shape("rectangle", [[0, 0], [7, 6]], "sky"))
    dataset = read_labelme(root, labels=["sky", "tree", "car"], options=ShapeOptions("area", "ignore"))
    assert dataset.classes.names == ("sky", "tree", "car")
    assert convert(dataset)["train"]["a"][:3] == [[2, 2, *[0] * 6], [2, 2, *[0] * 6], [0] * 8]


def test_splits_and_image_paths(write: Callable[..., Path], tmp_path: Path, convert: Callable[..., Any]) -> None:
    (tmp_path / "labelme" / "photos").mkdir(parents=True)
    write(shape("point", [[1, 1]]), name="valid/night/b")
    write(shape("point", [[1, 1]]), name="c", imagePath=".\\photos\\c.jpg")
    (tmp_path / "labelme" / "c.jpg").rename(tmp_path / "labelme" / "photos" / "c.jpg")
    root = write(shape("point", [[1, 1]]), name="d", imagePath="C:\\Users\\me\\d.jpg")
    (root / "notes.json").write_text("{}")
    (root / "d.jpg").with_name("new.jpg").write_bytes((root / "d.jpg").read_bytes())
    dataset = read_labelme(root)
    assert dataset.skipped == {
        "JSON files without shapes": 1,
        "images without a JSON file": 1,
        "stale imagePaths: the image of that name beside the file was taken": 1,
    }
    assert {split: set(names) for split, names in convert(dataset).items()} == {
        "train": {"c", "d"},
        "val": {"night/b"},
    }


@pytest.mark.parametrize(
    ("drawn", "message"),
    [
        (shape("spline", [[0, 0]]), "shape_type 'spline' is unknown"),
        (shape("polygon", [[0, 0], [1, 1]]), "3 or more points"),
        (shape("circle", [[0, 0]]), "a circle has 2 points"),
        (shape("polygon", [[0, 0], [1, 1], [2, "x"]]), r"not a list of \[x, y\] numbers"),
        (shape("polygon", [[0, 0], [1, 1], [999, 2]]), r"\(999, 2\) is far outside"),
        (shape("mask", [[0, 0], [1, 1]], mask="%%"), "no PNG in base64"),
        (shape("mask", [[0, 0], [1, 1]]), "no PNG in base64"),
    ],
)
def test_bad_shapes(write: Callable[..., Path], tmp_path: Path, drawn: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"shapes\[0\] \(car\).*{message}"):
        write_dataset(read_labelme(write(drawn)), tmp_path / "out", OutputOptions(progress=False))


def test_bad_files_are_all_named(write: Callable[..., Path], tmp_path: Path) -> None:
    write(shape("point", [[1, 1]]), name="lost", imagePath="gone.jpg")
    root = write(shape("point", [[1, 1]]), name="b")
    (root / "b.json").write_text((root / "b.json").read_text()[:-5])
    with pytest.raises(ValueError, match=r"b\.json is not valid JSON(.|\n)*lost\.json: image 'gone\.jpg' not found"):
        read_labelme(root)
    with pytest.raises(FileNotFoundError, match="no JSON files"):
        read_labelme(tmp_path / "none")


def test_unknown_labels_and_wrong_sizes(write: Callable[..., Path], tmp_path: Path) -> None:
    root = write(shape("point", [[1, 1]], "cat"), imageHeight=8)
    with pytest.raises(ValueError, match="imageHeight x imageWidth is 8x8, but the image is 7x8"):
        write_dataset(read_labelme(root), tmp_path / "out", OutputOptions(progress=False))
    root = write(shape("point", [[1, 1]], "cat"))
    with pytest.raises(ValueError, match=r"\(cat\): no class of this name \(known: dog\)"):
        write_dataset(read_labelme(root, labels=["dog"]), tmp_path / "out2", OutputOptions(progress=False))


def encoded(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def dark_palette() -> Image.Image:
    image = Image.fromarray(np.array([[0, 1], [2, 0]], np.uint8), "P")
    image.putpalette([0, 0, 0, 0, 0, 1, 1, 0, 0])
    return image


DARK = {
    "palette": dark_palette(),
    "grey of 16 bits": Image.fromarray(np.array([[0, 1], [200, 0]], np.uint16)),
    "one bit": Image.fromarray(np.array([[0, 1], [1, 0]], bool)),
    "colours": Image.fromarray(np.array([[[0, 0, 0], [0, 0, 1]], [[1, 0, 0], [0, 0, 0]]], np.uint8)),
    "transparent": Image.fromarray(
        np.array([[[9, 9, 9, 0], [0, 0, 1, 255]], [[1, 0, 0, 9], [0, 0, 0, 255]]], np.uint8)
    ),
}


@pytest.mark.parametrize("kind", DARK)
def test_masks_are_where_they_are_not_zero_however_dark(
    kind: str, write: Callable[..., Path], convert: Callable[..., Any]
) -> None:
    root = write(shape("mask", [[1, 2], [2, 3]], mask=encoded(DARK[kind])))
    assert convert(read_labelme(root))["train"]["a"][1:5] == [
        [0] * 8,
        [0, 0, 1, 0, 0, 0, 0, 0],
        [0, 1, 0, 0, 0, 0, 0, 0],
        [0] * 8,
    ]


def test_a_mask_of_another_size_than_its_box_is_refused(write: Callable[..., Path], tmp_path: Path) -> None:
    root = write(shape("mask", [[1, 2], [2, 4]], mask=png_in_base64([[0, 1], [1, 0]])))
    with pytest.raises(ValueError, match="mask has 2x2 pixels .* but its two points span 3x2"):
        write_dataset(read_labelme(root), tmp_path / "out", OutputOptions(progress=False))


BOX = [[1, 1], [2, 1], [2, 2]]


def test_labels_that_are_numbers_are_their_text(write: Callable[..., Path]) -> None:
    root = write(shape("polygon", BOX, label=7), shape("polygon", BOX, label=2.5), shape("polygon", BOX, label="7"))
    assert read_labelme(root).classes.names == ("background", "2.5", "7")


@pytest.mark.parametrize(("label", "shown"), [(None, "null"), (True, "true"), ("", '""'), ([1], "a list")])
def test_labels_that_are_no_text_are_refused(label: Any, shown: str, write: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match=rf"a\.json: shapes\[0\]: the name of the label is {shown}, expected a text"):
        read_labelme(write(shape("polygon", BOX, label=label)))


def test_labels_that_differ_in_blanks_are_one_class(write: Callable[..., Path], convert: Callable[..., Any]) -> None:
    dataset = read_labelme(
        write(shape("polygon", BOX, label="car"), shape("polygon", [[4, 1], [5, 1], [5, 2]], "car "))
    )
    assert dataset.classes.names == ("background", "car")
    assert "2 classes of the name 'car' are one class" in dataset.notes[0]
    assert convert(dataset)["train"]["a"][1] == [0, 1, 1, 0, 1, 1, 0, 0]
    named = read_labelme(write(shape("polygon", BOX, label=" car")), labels=["car"])
    mask = named.splits["train"][0].mask
    assert mask is not None
    assert mask.paint((HEIGHT, WIDTH)).mask[1].tolist() == [0, 1, 1, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings(encoding: str, write: Callable[..., Path]) -> None:
    root = write(shape("polygon", BOX, label="Übung"))
    file = root / "a.json"
    file.write_bytes(json.dumps(json.loads(file.read_text()), ensure_ascii=False).encode(encoding))
    assert read_labelme(root).classes.names == ("background", "Übung")


def test_other_encodings_are_refused_by_file_and_line(write: Callable[..., Path]) -> None:
    root = write(shape("polygon", BOX, label="Übung"))
    file = root / "a.json"
    file.write_bytes(json.dumps(json.loads(file.read_text()), ensure_ascii=False, indent=1).encode("latin-1"))
    with pytest.raises(ValueError, match=r"a\.json:6: the byte 0xDC is not UTF-8; save the file as UTF-8"):
        read_labelme(root)


@pytest.mark.parametrize(("height", "width"), [("7", "8"), (7.0, 8.0), ("7.0", 8)])
def test_sizes_as_text_are_numbers(
    height: Any, width: Any, write: Callable[..., Path], convert: Callable[..., Any]
) -> None:
    root = write(shape("polygon", BOX), imageHeight=height, imageWidth=width)
    assert convert(read_labelme(root))["train"]["a"][1][1] == 1


def test_sizes_that_are_none(write: Callable[..., Path], tmp_path: Path) -> None:
    root = write(shape("polygon", BOX), imageHeight="7px")
    with pytest.raises(
        ValueError, match=r"imageHeight, imageWidth: the image size .* is 7pxx8, expected whole numbers"
    ):
        write_dataset(read_labelme(root), tmp_path / "out", OutputOptions(progress=False))


def test_files_that_are_no_annotations_are_counted(write: Callable[..., Path]) -> None:
    root = write(shape("polygon", BOX))
    for name, text in {"list": '["a"]', "text": '"a"', "nothing": "null", "._a": "\0\x05", ".hidden": "{"}.items():
        (root / f"{name}.json").write_text(text)
    assert read_labelme(root).skipped == {"JSON files without shapes": 3}


def test_files_whose_image_is_lost_can_be_left_out(write: Callable[..., Path]) -> None:
    write(shape("polygon", BOX), name="b")
    root = write(shape("polygon", BOX))
    (root / "b.jpg").unlink()
    with pytest.raises(ValueError, match="--unmatched skip"):
        read_labelme(root)
    dataset = read_labelme(root, unmatched="skip")
    assert dataset.skipped == {"files without their image (--unmatched skip)": 1}
    assert [item.name for item in dataset.splits["train"]] == ["a"]


@pytest.mark.parametrize("points", [[[1, 1], [2, 2]], [[1, 1]], []])
def test_outlines_without_an_area_can_be_left_out(
    points: list[list[int]], write: Callable[..., Path], tmp_path: Path
) -> None:
    root = write(shape("polygon", points), shape("polygon", BOX), shape("line", [[4, 4], [5, 4]]))
    with pytest.raises(ValueError, match="a polygon has 3 or more points"):
        write_dataset(read_labelme(root), tmp_path / "out", OutputOptions(progress=False))
    dataset = read_labelme(root, options=ShapeOptions("file", degenerate="skip"))
    mask = dataset.splits["train"][0].mask
    assert mask is not None
    painted = mask.paint((HEIGHT, WIDTH))
    assert painted.skipped == {"outlines of fewer than 3 corners (--degenerate skip)": 1}
    assert painted.mask[1, 1] == painted.mask[4, 4] == 1
