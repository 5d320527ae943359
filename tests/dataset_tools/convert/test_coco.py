import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as run_lengths

from dataset_tools.convert.coco import read_coco, read_panoptic
from dataset_tools.convert.coco_files import CocoSplit
from dataset_tools.convert.output import OutputOptions, write_dataset
from dataset_tools.convert.painting import PaintOrder, ShapeOptions

# Ids with gaps, not in order; 4x6 pixels (height x width).
CATEGORIES = [{"id": 18, "name": "dog"}, {"id": 3, "name": "car"}, {"id": 90, "name": "crowd of people"}]
IMAGE = {"id": 7, "file_name": "a b.jpg", "height": 4, "width": 6}
# Columns 1..3 of rows 1..2: x from 1 to 4, y from 1 to 3.
CAR = {"id": 1, "image_id": 7, "category_id": 3, "iscrowd": 0, "segmentation": [[1, 1, 4, 1, 4, 3, 1, 3]]}
# Column by column: column 0 has 1 pixel of background and 3 of the object; column 5 the object in all 4 rows.
LIST_RLE = {"size": [4, 6], "counts": [1, 3, 16, 4]}


def annotate(root: Path, *annotations: dict[str, Any], **more: Any) -> Path:
    file = root / "annotations" / "instances_train2017.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {"images": [IMAGE], "annotations": list(annotations), "categories": CATEGORIES, **more}
    file.write_text(json.dumps(content))
    return root


@pytest.fixture
def root(tmp_path: Path, picture: Callable[..., Path]) -> Path:
    picture(tmp_path / "coco" / "train2017" / "a b.jpg")
    return tmp_path / "coco"


def failing(root: Path, tmp_path: Path, message: str, **options: Any) -> None:
    with pytest.raises(ValueError, match=message):
        write_dataset(read_coco(root, **options), tmp_path / "out", OutputOptions(progress=False))


def test_polygons_cover_the_pixels_between_their_edges(root: Path, convert: Callable[..., Any]) -> None:
    dataset = read_coco(annotate(root, CAR))
    # Train ids in the order of the category ids, the background first.
    assert dataset.classes.names == ("background", "car", "dog", "crowd of people")
    assert dataset.classes.label_ids == (0, 3, 18, 90)
    expected = [[0] * 6, [0, 1, 1, 1, 0, 0], [0, 1, 1, 1, 0, 0], [0] * 6]
    assert convert(dataset) == {"train": {"a b": expected}}


def test_several_polygons_are_one_object(root: Path, convert: Callable[..., Any]) -> None:
    parts = [[0, 0, 2, 0, 2, 1, 0, 1], [4, 3, 6, 3, 6, 4, 4, 4]]
    masks = convert(read_coco(annotate(root, {**CAR, "segmentation": parts})))
    assert masks["train"]["a b"] == [[1, 1, 0, 0, 0, 0], [0] * 6, [0] * 6, [0, 0, 0, 0, 1, 1]]


def test_run_lengths_as_a_list_are_column_major_and_begin_with_background(
    root: Path, convert: Callable[..., Any]
) -> None:
    masks = convert(read_coco(annotate(root, {**CAR, "category_id": 90, "iscrowd": 1, "segmentation": LIST_RLE})))
    assert masks["train"]["a b"] == [[0, 0, 0, 0, 0, 3], [3, 0, 0, 0, 0, 3], [3, 0, 0, 0, 0, 3], [3, 0, 0, 0, 0, 3]]


def test_compressed_run_lengths(root: Path, convert: Callable[..., Any]) -> None:
    # Worked out by hand from COCO's rule: 5 bits a character from "0" (48), the sixth bit (32) for "goes on", the fifth
    # of the last one for the sign; from the fourth number on, the difference to the last but one. 1 -> "1", 3 -> "3",
    # 16 -> 16 + 32 + 48 = "`" and 0 -> "0" lest it be negative, 4 - 3 -> "1".
    masks = convert(read_coco(annotate(root, {**CAR, "segmentation": {"size": [4, 6], "counts": "13`01"}})))
    assert masks["train"]["a b"] == [[0, 0, 0, 0, 0, 1], [1, 0, 0, 0, 0, 1], [1, 0, 0, 0, 0, 1], [1, 0, 0, 0, 0, 1]]


def test_compressed_run_lengths_of_any_mask_come_back(root: Path, convert: Callable[..., Any]) -> None:
    pixels = np.random.default_rng(0).integers(0, 2, (4, 6), np.uint8)
    encoded = run_lengths.encode(np.asfortranarray(pixels))
    segmentation = {"size": [4, 6], "counts": encoded["counts"].decode()}
    assert convert(read_coco(annotate(root, {**CAR, "segmentation": segmentation})))["train"]["a b"] == pixels.tolist()


@pytest.mark.parametrize(
    ("order", "seen"), [("area", [3, 1, 2]), ("file", [1, 1, 2]), ("reversed", [3, 2, 2]), ("class", [3, 2, 2])]
)
def test_painting_order(root: Path, convert: Callable[..., Any], order: PaintOrder, seen: list[int]) -> None:
    widths = ((90, 1), (18, 3), (3, 2))
    objects = [
        {**CAR, "category_id": category, "segmentation": [[0, 0, width, 0, width, 1, 0, 1]]}
        for category, width in widths
    ]
    dataset = read_coco(annotate(root, *objects), options=ShapeOptions(order))
    assert convert(dataset)["train"]["a b"][0] == [*seen, 0, 0, 0]


def test_background_ignored_and_classes_ignored_or_skipped(
    root: Path, tmp_path: Path, convert: Callable[..., Any]
) -> None:
    dog = {**CAR, "category_id": 18, "segmentation": [[0, 0, 6, 0, 6, 2, 0, 2]]}
    crowd = {**CAR, "category_id": 90, "segmentation": [[0, 0, 6, 0, 6, 4, 0, 4]]}
    options = ShapeOptions("area", "ignore", ignore=("car",), skip=("crowd of people",))
    dataset = read_coco(annotate(root, crowd, dog, CAR), options=options)
    assert dataset.classes.names == ("dog",)
    assert convert(dataset)["train"]["a b"] == [
        [0, 0, 0, 0, 0, 0],
        [0, 255, 255, 255, 0, 0],
        [255] * 6,
        [255] * 6,
    ]
    done = write_dataset(dataset, tmp_path / "again", OutputOptions(progress=False))
    assert done.skipped == {"objects of the class 'crowd of people' (--skip)": 1}


@pytest.mark.parametrize(("crowd", "value"), [("paint", 1), ("ignore", 255), ("skip", 0)])
def test_crowds(root: Path, convert: Callable[..., Any], crowd: Any, value: int) -> None:
    dataset = read_coco(annotate(root, {**CAR, "iscrowd": 1, "segmentation": LIST_RLE}), crowd=crowd)
    assert convert(dataset)["train"]["a b"][3] == [value, 0, 0, 0, 0, value]


def test_what_is_left_out_is_counted(root: Path, tmp_path: Path) -> None:
    outside = {**CAR, "segmentation": [[7, 1, 9, 1, 9, 3]]}
    box = {**CAR, "segmentation": []}
    stray = {**CAR, "image_id": 99}
    dataset = read_coco(annotate(root, outside, box, stray))
    assert write_dataset(dataset, tmp_path / "out", OutputOptions(progress=False)).skipped == {
        "objects that lie wholly outside their image": 1,
        "annotations without a segmentation, such as boxes alone": 1,
        "annotations of images that instances_train2017.json does not list": 1,
    }


def test_polygons_may_leave_the_image_a_little(root: Path, convert: Callable[..., Any]) -> None:
    masks = convert(read_coco(annotate(root, {**CAR, "segmentation": [[-2, -1, 2, -1, 2, 2, -2, 2]]})))
    assert masks["train"]["a b"] == [[1, 1, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0], [0] * 6, [0] * 6]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"category_id": 0}, "category_id 0 is none of the categories"),
        ({"category_id": 4}, "category_id 4 is none of the categories"),
        ({"segmentation": [[1, 1, 2, 2]]}, "4 numbers, expected x and y of 3 or more"),
        ({"segmentation": [[1, 1, 2, 2, 3]]}, "5 numbers"),
        ({"segmentation": [[[1, 1], [2, 2], [3, 3]]]}, "6 numbers"),
        ({"segmentation": [[1, 1, 2, "x", 3, 4]]}, "not a list of numbers"),
        ({"segmentation": [[1, 1, 640, 1, 640, 480]]}, r"\(640, 1\) is far outside the image of 4x6"),
        ({"segmentation": "13?1"}, "segmentation is str"),
        ({"segmentation": {"size": [6, 4], "counts": [24]}}, r"of the size \[6, 4\], the image is \[4, 6\]"),
        ({"segmentation": {"size": [4, 6], "counts": [1, 2]}}, "add up to 3 pixels, the image has 24"),
        ({"segmentation": {"size": [4, 6], "counts": [25, -1]}}, r"counts is \[25, -1\], expected"),
        ({"segmentation": {"size": [4, 6], "counts": "13"}}, "add up to 4 pixels"),
        ({"segmentation": {"size": [4, 6], "counts": "13`"}}, "ends within a number"),
        ({"segmentation": {"size": [4, 6], "counts": "O"}}, "negative lengths"),
        ({"segmentation": {"size": [4, 6], "counts": "1 3"}}, "the character ' ' does not occur"),
        ({"segmentation": {"size": [4, 6]}}, "counts is None"),
    ],
)
def test_bad_annotations(root: Path, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    failing(annotate(root, {**CAR, **change}), tmp_path, message)


def test_bad_files(root: Path, tmp_path: Path, picture: Callable[..., Path]) -> None:
    file = root / "annotations" / "instances_train2017.json"
    failing(annotate(root, CAR, images=[IMAGE, IMAGE]), tmp_path, "1 images have the id of another")
    failing(annotate(root, CAR, images=[{"id": 1}]), tmp_path, r"images\[0\] lacks file_name, height, width")
    failing(annotate(root, CAR, images=None), tmp_path, "has no list `images`")
    failing(annotate(root, CAR, categories=[{"id": 1}]), tmp_path, "categories must hold id and name")
    failing(annotate(root, CAR, images=[{**IMAGE, "width": 4, "height": 6}]), tmp_path, "6x4 .* but the file is 4x6")
    failing(annotate(root, CAR, images=[{**IMAGE, "file_name": "../x.jpg"}]), tmp_path, "leads out of the dataset")
    failing(annotate(root, CAR, images=[{**IMAGE, "file_name": "none.jpg"}]), tmp_path, r"image not found: .*none\.jpg")
    failing(annotate(root, CAR), tmp_path, "no class is named cat", options=ShapeOptions("area", skip=("cat",)))
    file.write_text(file.read_text()[:-9])
    failing(root, tmp_path, r"instances_train2017\.json is not valid JSON")
    file.write_text("[]")
    failing(root, tmp_path, "holds a JSON list")
    file.unlink()
    with pytest.raises(FileNotFoundError, match=r"no annotations/instances_\*\.json .*--split"):
        read_coco(root)


def test_other_places(tmp_path: Path, picture: Callable[..., Path], convert: Callable[..., Any]) -> None:
    root = annotate(tmp_path / "own", CAR)
    with pytest.raises(FileNotFoundError, match="images of .* not found"):
        read_coco(root)
    picture(root / "photos" / "a b.jpg")
    split = CocoSplit(root / "annotations" / "instances_train2017.json", root / "photos")
    assert set(convert(read_coco(root, splits={"mine": split}))) == {"mine"}
    exported = tmp_path / "export"
    picture(exported / "valid" / "a b.jpg")
    (exported / "valid" / "_annotations.coco.json").write_bytes(split.annotations.read_bytes())
    assert list(read_coco(exported).splits) == ["val"]


def test_files_without_annotations_are_images_alone(root: Path, convert: Callable[..., Any]) -> None:
    file = root / "annotations" / "instances_train2017.json"
    annotate(root, CAR)
    content = json.loads(file.read_text())
    del content["annotations"]
    file.write_text(json.dumps(content))
    assert convert(read_coco(root)) == {"train": {"a b": None}}


def test_splits_must_agree_on_the_categories(root: Path, picture: Callable[..., Path]) -> None:
    annotate(root, CAR)
    picture(root / "val2017" / "a b.jpg")
    content = json.loads((root / "annotations" / "instances_train2017.json").read_text())
    content["categories"] = CATEGORIES[:2]
    (root / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"instances_val2017\.json has other categories"):
        read_coco(root)


# Ids R + 256 G + 65536 B.
CAR_RGB, ROAD_RGB, FAR_RGB = (5, 0, 0), (1, 2, 0), (0, 0, 3)
VOID_RGB = (0, 0, 0)
SEGMENTS = [
    {"id": 5, "category_id": 3, "iscrowd": 1},
    {"id": 1 + 256 * 2, "category_id": 149, "iscrowd": 0},
    {"id": 65536 * 3, "category_id": 3, "iscrowd": 0},
]
PANOPTIC_CATEGORIES = [
    {"id": 149, "name": "road", "isthing": 0, "color": [128, 64, 128]},
    {"id": 3, "name": "car", "isthing": 1, "color": [0, 0, 142]},
]


@pytest.fixture
def panoptic_root(tmp_path: Path, picture: Callable[..., Path], colors: Callable[..., Path]) -> Path:
    root = tmp_path / "coco"
    picture(root / "val2017" / "a.jpg", (2, 3))
    colors(
        root / "annotations" / "panoptic_val2017" / "a.png",
        [[CAR_RGB, CAR_RGB, FAR_RGB], [ROAD_RGB, ROAD_RGB, VOID_RGB]],
    )
    return root


def annotate_panoptic(root: Path, **change: Any) -> Path:
    annotation = {"image_id": 1, "file_name": "a.png", "segments_info": SEGMENTS}
    image = {"id": 1, "file_name": "a.jpg", "height": 2, "width": 3}
    content = {"images": [image], "annotations": [annotation], "categories": PANOPTIC_CATEGORIES, **change}
    (root / "annotations" / "panoptic_val2017.json").write_text(json.dumps(content))
    return root


def test_panoptic_segments(panoptic_root: Path, convert: Callable[..., Any]) -> None:
    dataset = read_panoptic(annotate_panoptic(panoptic_root))
    assert dataset.classes == (("car", "road"), ((0, 0, 142), (128, 64, 128)), (3, 149))
    assert convert(dataset) == {"val": {"a": [[0, 0, 0], [1, 1, 255]]}}


def test_a_panoptic_png_of_another_size(panoptic_root: Path, tmp_path: Path, colors: Callable[..., Path]) -> None:
    colors(panoptic_root / "annotations" / "panoptic_val2017" / "a.png", [[CAR_RGB, CAR_RGB, FAR_RGB]])
    with pytest.raises(ValueError, match=r"a\.png is 1x3, its image is 2x3"):
        write_dataset(read_panoptic(annotate_panoptic(panoptic_root)), tmp_path / "out", OutputOptions(progress=False))


def test_panoptic_crowds_and_ignored_categories(
    panoptic_root: Path, tmp_path: Path, convert: Callable[..., Any]
) -> None:
    dataset = read_panoptic(annotate_panoptic(panoptic_root), crowd="ignore", ignore=["road"])
    assert convert(dataset) == {"val": {"a": [[255, 255, 0], [255, 255, 255]]}}
    done = write_dataset(dataset, tmp_path / "again", OutputOptions(progress=False))
    assert done.skipped == {"crowd segments, ignored (--crowd ignore)": 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"annotations": []}, r"a\.jpg has 0 annotations"),
        ({"annotations": [{"image_id": 1, "category_id": 3, "segmentation": []}]}, "is it a panoptic file"),
        (
            {"annotations": [{"image_id": 1, "file_name": "a.png", "segments_info": SEGMENTS[:1]}]},
            r"holds the ids \[513, 196608\]",
        ),
        (
            {"annotations": [{"image_id": 1, "file_name": "b.png", "segments_info": SEGMENTS}]},
            r"mask not found: .*b\.png",
        ),
        ({"categories": PANOPTIC_CATEGORIES[:1]}, "category_id 3 is none"),
    ],
)
def test_bad_panoptic_files(panoptic_root: Path, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_dataset(
            read_panoptic(annotate_panoptic(panoptic_root, **change)), tmp_path / "out", OutputOptions(progress=False)
        )


@pytest.mark.parametrize(("listed", "used"), [("7", 7), (7, "7"), (7.0, 7), ("7", 7.0), ("x7", "x7")])
def test_ids_are_compared_as_text(listed: Any, used: Any, root: Path, convert: Callable[..., Any]) -> None:
    annotate(root, {**CAR, "image_id": used, "category_id": "3"}, images=[{**IMAGE, "id": listed}])
    assert convert(read_coco(root))["train"]["a b"][1] == [0, 1, 1, 1, 0, 0]


@pytest.mark.parametrize("used", [8, "a b.jpg", None])
def test_a_file_that_loses_all_annotations_is_refused(used: Any, root: Path) -> None:
    with pytest.raises(
        ValueError, match=r"none of its 1 annotations is of a listed image; image_id is .* begin with 7"
    ):
        read_coco(annotate(root, {**CAR, "image_id": used}))


def test_ids_of_panoptic_files_as_text(root: Path, convert: Callable[..., Any], colors: Callable[..., Path]) -> None:
    segments = [{"id": "1", "category_id": "3"}, {"id": 2, "category_id": 18.0}]
    content = {
        "images": [{**IMAGE, "id": "7", "height": "4", "width": "6"}],
        "annotations": [{"image_id": 7, "file_name": "sub\\a.png", "segments_info": segments}],
        "categories": CATEGORIES,
    }
    (root / "annotations").mkdir()
    (root / "annotations" / "panoptic_train2017.json").write_text(json.dumps(content))
    colors(root / "annotations" / "panoptic_train2017" / "sub" / "a.png", [[(1, 0, 0)] * 3 + [(2, 0, 0)] * 3] * 4)
    assert convert(read_panoptic(root))["train"]["a b"] == [[0, 0, 0, 1, 1, 1]] * 4


@pytest.mark.parametrize("name", ["sub\\\\a b.jpg", ".\\\\sub\\\\a b.jpg"])
def test_backslashes_of_windows(
    name: str, root: Path, picture: Callable[..., Path], convert: Callable[..., Any]
) -> None:
    picture(root / "train2017" / "sub" / "a b.jpg")
    masks = convert(read_coco(annotate(root, CAR, images=[{**IMAGE, "file_name": name.replace("\\\\", "\\")}])))
    assert list(masks["train"]) == ["sub/a b"]


def test_a_backslash_that_is_part_of_a_name_stays(
    root: Path, picture: Callable[..., Path], convert: Callable[..., Any]
) -> None:
    picture(root / "train2017" / "a\\b.jpg")
    masks = convert(read_coco(annotate(root, CAR, images=[{**IMAGE, "file_name": "a\\b.jpg"}])))
    assert list(masks["train"]) == ["a\\b"]


def test_categories_of_one_name_are_one_class(root: Path, convert: Callable[..., Any]) -> None:
    categories = [{"id": 3, "name": "car"}, {"id": 5, "name": "dog"}, {"id": 6, "name": "car "}]
    other = {**CAR, "id": 2, "category_id": 6, "segmentation": [[5, 3, 6, 3, 6, 4, 5, 4]]}
    dataset = read_coco(annotate(root, CAR, other, categories=categories))
    assert (dataset.classes.names, dataset.classes.label_ids) == (("background", "car", "dog"), (0, 3, 5))
    assert dataset.notes == ["2 classes of the name 'car' are one class (3, 6)"]
    assert convert(dataset)["train"]["a b"] == [[0] * 6, [0, 1, 1, 1, 0, 0], [0, 1, 1, 1, 0, 0], [0, 0, 0, 0, 0, 1]]


def test_a_category_that_only_groups_others_is_no_class(root: Path) -> None:
    categories = [
        {"id": 0, "name": "things", "supercategory": "none"},
        {"id": 3, "name": "car", "supercategory": "things"},
        {"id": 4, "name": "lone", "supercategory": "none"},
    ]
    dataset = read_coco(annotate(root, CAR, categories=categories))
    assert dataset.classes.names == ("background", "car", "lone")
    assert dataset.notes == ["categories that only group others, without annotations, are no classes: 'things'"]
    used = read_coco(annotate(root, CAR, {**CAR, "id": 2, "category_id": 0}, categories=categories))
    assert used.classes.names == ("background", "things", "car", "lone")


@pytest.mark.parametrize(("name", "shown"), [(None, "null"), (False, "false"), ({}, "a dict")])
def test_names_that_are_no_text_are_refused(name: Any, shown: str, root: Path) -> None:
    with pytest.raises(ValueError, match=f"the name of the label is {shown}"):
        read_coco(annotate(root, CAR, categories=[{"id": 3, "name": name}]))
    assert read_coco(annotate(root, CAR, categories=[{"id": 3, "name": 12}])).classes.names == ("background", "12")


def test_two_files_of_one_split_keep_their_names(root: Path, picture: Callable[..., Path]) -> None:
    annotate(root, CAR)
    file = root / "annotations" / "instances_train2017.json"
    picture(root / "default" / "a b.jpg")
    (root / "annotations" / "instances_default.json").write_bytes(file.read_bytes())
    assert set(read_coco(root).splits) == {"train", "default"}
    picture(root / "train2014" / "a b.jpg")
    (root / "annotations" / "instances_train2014.json").write_bytes(file.read_bytes())
    (root / "annotations" / "instances_default.json").unlink()
    assert set(read_coco(root).splits) == {"train2014", "train2017"}


def test_images_that_are_lost_can_be_left_out(root: Path) -> None:
    annotate(root, CAR, images=[IMAGE, {**IMAGE, "id": 8, "file_name": "lost.jpg"}])
    dataset = read_coco(root, unmatched="skip")
    assert [item.name for item in dataset.splits["train"]] == ["a b"]
    assert dataset.skipped["images that are listed and not there (--unmatched skip)"] == 1


def test_only_endings_of_images_are_taken_off(
    root: Path, picture: Callable[..., Path], convert: Callable[..., Any]
) -> None:
    png = picture(root / "train2017" / "x.png")
    images = []
    for number, name in enumerate(["scene.0001", "scene.0002", "v1.2.JPG"]):
        (root / "train2017" / name).write_bytes(png.read_bytes())
        images.append({**IMAGE, "id": number, "file_name": name})
    dataset = read_coco(annotate(root, {**CAR, "image_id": 0}, images=images))
    assert [item.name for item in dataset.splits["train"]] == ["scene.0001", "scene.0002", "v1.2"]
    convert(dataset)


@pytest.mark.parametrize(
    ("segmentation", "skipped", "row"),
    [
        ([[1, 1, 4, 1]], 1, [0] * 6),
        ([[1, 1], [1, 1, 4, 1, 4, 3, 1, 3]], 1, [0, 1, 1, 1, 0, 0]),
        ([[], [2, 2, 3, 3], [1, 1, 4, 1, 4, 3, 1, 3]], 2, [0, 1, 1, 1, 0, 0]),
    ],
)
def test_outlines_without_an_area_can_be_left_out(
    segmentation: list[list[int]], skipped: int, row: list[int], root: Path, tmp_path: Path
) -> None:
    annotate(root, {**CAR, "segmentation": segmentation})
    failing(root, tmp_path, "expected x and y of 3 or more corners")
    dataset = read_coco(root, options=ShapeOptions("area", degenerate="skip"))
    mask = dataset.splits["train"][0].mask
    assert mask is not None
    painted = mask.paint((4, 6))
    assert painted.mask[1].tolist() == row
    assert painted.skipped == {"outlines of fewer than 3 corners (--degenerate skip)": skipped}
