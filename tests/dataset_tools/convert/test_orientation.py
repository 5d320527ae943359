"""Images that are stored turned, for every format: what was drawn on the upright picture fits the stored pixels."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from dataset_tools.convert.cityscapes import read_cityscapes
from dataset_tools.convert.coco import read_coco
from dataset_tools.convert.coco_files import CocoSplit
from dataset_tools.convert.folders import read_folders
from dataset_tools.convert.labelme import read_labelme
from dataset_tools.convert.orientation import as_stored, read_header
from dataset_tools.convert.output import OutputOptions, write_dataset
from dataset_tools.convert.source import SourceDataset
from dataset_tools.convert.voc import read_voc
from dataset_tools.convert.yolo import read_yolo
from dataset_tools.masks import read_mask

ORIENTATIONS = range(1, 9)
# Upright, a box of columns 1..3 and rows 2..6 (its border belongs to it), alone in its corner.
LEFT, TOP, RIGHT, BOTTOM = 1, 2, 3, 6


def photo(path: Path, size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Writes an image of the size that is stored, with its tag; returns the size of the upright picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", size[::-1], (90, 90, 90))
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(path, exif=exif)
    return size[::-1] if orientation >= 5 else size


def expected(size: tuple[int, int], orientation: int) -> NDArray[np.uint8]:
    """The mask of the box in stored pixels: of all pictures, the one that Pillow turns into the upright mask."""
    height, width = size[::-1] if orientation >= 5 else size
    upright = np.zeros((height, width), np.uint8)
    upright[TOP : BOTTOM + 1, LEFT : RIGHT + 1] = 1
    numbers = np.arange(size[0] * size[1], dtype=np.int32).reshape(size)
    image = Image.fromarray(numbers)
    image.getexif()[0x0112] = orientation
    turned = np.asarray(ImageOps.exif_transpose(image))
    stored = np.zeros(size[0] * size[1], np.uint8)
    stored[turned[upright > 0]] = 1
    return stored.reshape(size)


def yolo(root: Path, size: tuple[int, int], orientation: int) -> SourceDataset:
    height, width = photo(root / "images/train/a.png", size, orientation)
    (root / "labels/train").mkdir(parents=True)
    corners = [(LEFT, TOP), (RIGHT + 1, TOP), (RIGHT + 1, BOTTOM + 1), (LEFT, BOTTOM + 1)]
    line = " ".join(f"{x / width:.9f} {y / height:.9f}" for x, y in corners)
    (root / "labels/train/a.txt").write_text(f"0 {line}\n")
    (root / "data.yaml").write_text("train: images/train\nnames: [car]\n")
    return read_yolo(root)


def labelme(root: Path, size: tuple[int, int], orientation: int) -> SourceDataset:
    height, width = photo(root / "a.png", size, orientation)
    shape = {"label": "car", "points": [[LEFT, TOP], [RIGHT, BOTTOM]], "shape_type": "rectangle"}
    content = {"shapes": [shape], "imagePath": "a.png", "imageHeight": height, "imageWidth": width}
    (root / "a.json").write_text(json.dumps(content))
    return read_labelme(root)


def coco(root: Path, size: tuple[int, int], orientation: int) -> SourceDataset:
    height, width = photo(root / "a.png", size, orientation)
    polygon = [LEFT, TOP, RIGHT + 1, TOP, RIGHT + 1, BOTTOM + 1, LEFT, BOTTOM + 1]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": height, "width": width}],
        "categories": [{"id": 1, "name": "car"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": [polygon]}],
    }
    (root / "a.json").write_text(json.dumps(content))
    return read_coco(root, splits={"train": CocoSplit(root / "a.json", root)})


def cityscapes(root: Path, size: tuple[int, int], orientation: int) -> SourceDataset:
    height, width = photo(root / "leftImg8bit/train/x/a_leftImg8bit.png", size, orientation)
    outline = [[LEFT, TOP], [RIGHT, TOP], [RIGHT, BOTTOM], [LEFT, BOTTOM]]
    whole = [[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]]
    objects = [{"label": "road", "polygon": whole}, {"label": "sidewalk", "polygon": outline}]
    place = root / "gtFine/train/x/a_gtFine_polygons.json"
    place.parent.mkdir(parents=True)
    place.write_text(json.dumps({"imgHeight": height, "imgWidth": width, "objects": objects}))
    return read_cityscapes(root, masks_from="polygons")


Maker = Callable[[Path, tuple[int, int], int], SourceDataset]


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("make", [yolo, labelme, coco, cityscapes])
@pytest.mark.parametrize("size", [(12, 9), (9, 9)])
def test_polygons_of_the_upright_picture(make: Maker, size: tuple[int, int], orientation: int, tmp_path: Path) -> None:
    dataset = make(tmp_path / "set", size, orientation)
    done = write_dataset(dataset, tmp_path / "out", OutputOptions(progress=False, workers=1))
    mask = done.description.samples("train")[0].mask
    assert mask is not None
    assert read_mask(mask).tolist() == expected(size, orientation).tolist()
    assert any("stored turned" in note for note in done.notes) == (orientation != 1)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_turning_is_undone_by_viewers(orientation: int) -> None:
    upright = np.arange(6, dtype=np.uint8).reshape(2, 3)
    image = Image.fromarray(as_stored(upright, orientation))
    image.getexif()[0x0112] = orientation
    assert np.asarray(ImageOps.exif_transpose(image)).tolist() == upright.tolist()


@pytest.mark.parametrize("make", [labelme, coco, cityscapes])
def test_files_that_state_the_stored_size_were_made_on_it(make: Maker, tmp_path: Path) -> None:
    dataset = make(tmp_path / "set", (12, 9), 1)
    for path in (tmp_path / "set").rglob("*.png"):
        photo(path, (12, 9), 6)
    done = write_dataset(dataset, tmp_path / "out", OutputOptions(progress=False, workers=1))
    mask = done.description.samples("train")[0].mask
    assert mask is not None
    assert read_mask(mask).tolist() == expected((12, 9), 1).tolist()


def test_the_user_can_say_what_was_drawn_on(tmp_path: Path) -> None:
    options = OutputOptions(progress=False, workers=1, drawn_on="stored")
    done = write_dataset(yolo(tmp_path / "set", (9, 9), 6), tmp_path / "out", options)
    mask = done.description.samples("train")[0].mask
    assert mask is not None
    assert read_mask(mask).tolist() == expected((9, 9), 1).tolist()
    with pytest.raises(ValueError, match="drawn_on is stored there, None here"):
        write_dataset(read_yolo(tmp_path / "set"), tmp_path / "out", OutputOptions(progress=False))


def pixels(root: Path, size: tuple[int, int], orientation: int, upright: bool) -> SourceDataset:
    """Plain folders: the mask of the box, as the upright picture or as it is stored."""
    photo(root / "images/a.png", size, orientation)
    mask = expected(size, 1) if not upright else expected(size[::-1] if orientation >= 5 else size, 1)
    (root / "masks").mkdir()
    Image.fromarray(mask).save(root / "masks/a.png")
    (root / "labels.csv").write_text("name,id,trainId,color_r,color_g,color_b\nroad,0,0,0,0,0\ncar,1,1,9,9,9\n")
    return read_folders(root, root / "labels.csv")


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_masks_of_pixels_fit_by_their_size(orientation: int, tmp_path: Path) -> None:
    for upright in (True, False):
        dataset = pixels(tmp_path / f"set{upright}", (12, 9), orientation, upright)
        done = write_dataset(dataset, tmp_path / f"out{upright}", OutputOptions(progress=False, workers=1))
        mask = done.description.samples("train")[0].mask
        assert mask is not None
        assert read_mask(mask).tolist() == expected((12, 9), orientation if upright else 1).tolist()


@pytest.mark.parametrize(("size", "orientation"), [((12, 9), 3), ((9, 9), 6), ((12, 9), 2)])
def test_masks_of_pixels_that_may_be_either_are_asked_about(
    size: tuple[int, int], orientation: int, tmp_path: Path
) -> None:
    dataset = pixels(tmp_path / "set", size, orientation, True)
    with pytest.raises(ValueError, match=rf"EXIF orientation {orientation}.*--drawn-on upright or --drawn-on stored"):
        write_dataset(dataset, tmp_path / "out", OutputOptions(progress=False))
    options = OutputOptions(progress=False, workers=1, drawn_on="upright")
    mask = write_dataset(dataset, tmp_path / "upright", options).description.samples("train")[0].mask
    assert mask is not None
    assert read_mask(mask).tolist() == expected(size, orientation).tolist()


def test_masks_of_cvat_are_asked_about_too(tmp_path: Path) -> None:
    photo(tmp_path / "JPEGImages/a.jpg", (9, 9), 8)
    (tmp_path / "SegmentationClass").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "SegmentationClass/a.png")
    (tmp_path / "labelmap.txt").write_text("background:0,0,0::\n")
    with pytest.raises(ValueError, match="--drawn-on"):
        write_dataset(read_voc(tmp_path), tmp_path.with_name("out"), OutputOptions(progress=False))


def test_header(tmp_path: Path) -> None:
    photo(tmp_path / "a.png", (3, 5), 6)
    assert read_header(tmp_path / "a.png") == ((3, 5), 6)
    assert read_header(tmp_path / "a.png").upright_size == (5, 3)
    (tmp_path / "b.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"image cannot be read: .*b\.png"):
        read_header(tmp_path / "b.png")
