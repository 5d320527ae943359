from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dataset_tools.convert.output import OutputOptions, write_dataset
from dataset_tools.convert.voc import read_labelmap, read_voc
from dataset_tools.masks import distinct_colors

LABELMAP = "# label:color_rgb:parts:actions\nbackground:0,0,0::\nroad:128,64,128::\nbus stop:0,60,100::\n"
BLACK, ROAD, STOP = (0, 0, 0), (128, 64, 128), (0, 60, 100)


@pytest.fixture
def root(tmp_path: Path, picture: Callable[..., Path]) -> Path:
    for name in ("2007_000032", "2007_000033"):
        picture(tmp_path / "VOC2012" / "JPEGImages" / f"{name}.jpg", (2, 3))
    return tmp_path / "VOC2012"


def lists(root: Path, **stems: str) -> None:
    (root / "ImageSets" / "Segmentation").mkdir(parents=True, exist_ok=True)
    for name, text in stems.items():
        (root / "ImageSets" / "Segmentation" / f"{name}.txt").write_text(text)


def test_vocs_own_palette_masks(root: Path, grey: Callable[..., Path], convert: Callable[..., Any]) -> None:
    palette = list(distinct_colors(256))
    grey(root / "SegmentationClass" / "2007_000032.png", [[0, 1, 255], [20, 15, 0]], palette)
    grey(root / "SegmentationClass" / "2007_000033.png", [[0, 0, 0], [2, 2, 255]], palette)
    lists(root, train="2007_000032\n", val="2007_000033\n", trainval="2007_000032\n2007_000033\n")
    dataset = read_voc(root)
    assert (dataset.classes.names[1], dataset.classes.names[20], dataset.classes.colors[1]) == (
        "aeroplane",
        "tvmonitor",
        (128, 0, 0),
    )
    assert dataset.skipped == {"list trainval: train and val are converted": 1}
    assert convert(dataset) == {
        "train": {"2007_000032": [[0, 1, 255], [20, 15, 0]]},
        "val": {"2007_000033": [[0, 0, 0], [2, 2, 255]]},
    }


def test_cvats_colours_and_labelmap(
    root: Path, colors: Callable[..., Path], grey: Callable[..., Path], convert: Callable[..., Any]
) -> None:
    (root / "labelmap.txt").write_text(LABELMAP)
    colors(root / "SegmentationClass" / "2007_000032.png", [[BLACK, ROAD, STOP], [ROAD, ROAD, (224, 224, 192)]])
    # A palette mask whose indices are in another order than the labelmap: its colours count.
    grey(root / "SegmentationClass" / "2007_000033.png", [[0, 1, 2], [0, 1, 2]], [STOP, BLACK, ROAD])
    lists(root, default="2007_000032\n2007_000033\n")
    dataset = read_voc(root)
    assert dataset.classes == (("background", "road", "bus stop"), (BLACK, ROAD, STOP), (0, 1, 2))
    assert convert(dataset) == {
        "train": {"2007_000032": [[0, 1, 2], [1, 1, 255]], "2007_000033": [[2, 0, 1], [2, 0, 1]]}
    }


def test_grey_masks_with_a_labelmap_and_ignored_classes(
    root: Path, grey: Callable[..., Path], convert: Callable[..., Any]
) -> None:
    (root / "labelmap.txt").write_text(LABELMAP)
    for name in ("2007_000032", "2007_000033"):
        grey(root / "SegmentationClass" / f"{name}.png", [[0, 1, 2], [2, 2, 255]])
    dataset = read_voc(root, ignore=["background"])
    assert dataset.classes.names == ("road", "bus stop")
    expected = [[255, 0, 1], [1, 1, 255]]
    assert convert(dataset) == {"train": {"2007_000032": expected, "2007_000033": expected}}


def test_colours_without_a_labelmap_are_vocs(
    root: Path, colors: Callable[..., Path], convert: Callable[..., Any]
) -> None:
    for name in ("2007_000032", "2007_000033"):
        colors(root / "SegmentationClass" / f"{name}.png", [[BLACK, (128, 0, 0), (0, 64, 128)], [BLACK] * 3])
    assert convert(read_voc(root))["train"]["2007_000032"] == [[0, 1, 20], [0, 0, 0]]


def test_encoding_can_be_forced(root: Path, grey: Callable[..., Path], convert: Callable[..., Any]) -> None:
    (root / "labelmap.txt").write_text(LABELMAP)
    for name in ("2007_000032", "2007_000033"):
        grey(root / "SegmentationClass" / f"{name}.png", [[0, 1, 2], [0, 1, 2]], [STOP, BLACK, ROAD])
    assert convert(read_voc(root, encoding="index"))["train"]["2007_000032"] == [[0, 1, 2], [0, 1, 2]]


def test_stems_without_files_are_all_named(root: Path, grey: Callable[..., Path]) -> None:
    grey(root / "SegmentationClass" / "2007_000032.png", [[0, 0, 0]] * 2)
    lists(root, train="2007_000032\n2007_000033\n", val="2008_000001\n")
    with pytest.raises(ValueError, match="no mask for 2007_000033(.|\n)*no image for 2008_000001"):
        read_voc(root)
    lists(root, train="2007_000032\n", val="")
    assert read_voc(root).skipped == {"images that no list names": 1}


def test_unknown_values(root: Path, grey: Callable[..., Path], colors: Callable[..., Path], tmp_path: Path) -> None:
    grey(root / "SegmentationClass" / "2007_000032.png", [[0, 21, 0]] * 2)
    colors(root / "SegmentationClass" / "2007_000033.png", [[(1, 1, 1)] * 3] * 2)
    with pytest.raises(ValueError, match=r"values: 21 \(2 pixels\)(.|\n)*colours: \(1, 1, 1\) \(6 pixels\)"):
        write_dataset(read_voc(root), tmp_path / "out", OutputOptions(progress=False))


def test_bad_labelmaps(tmp_path: Path) -> None:
    path = tmp_path / "labelmap.txt"
    path.write_text("a:1,2,3::\nb:1,2::\nc:1,2,300::\nd:1,2,3::\n")
    with pytest.raises(ValueError, match=r"txt:2: 'b:1,2::'(.|\n)*1,2,300(.|\n)*d has the colour of a"):
        read_labelmap(path)
    with pytest.raises(FileNotFoundError, match="JPEGImages"):
        read_voc(tmp_path)


def test_frames_without_a_mask_are_background_where_the_user_says_so(
    root: Path, colors: Callable[..., Path], convert: Callable[..., Any]
) -> None:
    (root / "labelmap.txt").write_text(LABELMAP)
    colors(root / "SegmentationClass" / "2007_000032.png", [[BLACK, ROAD, STOP]] * 2)
    lists(root, default="2007_000032\n2007_000033\n")
    with pytest.raises(ValueError, match=r"train: no mask for 2007_000033; .*--unlabelled background"):
        read_voc(root)
    assert convert(read_voc(root, unlabelled="background"))["train"]["2007_000033"] == [[0, 0, 0]] * 2
    left_out = read_voc(root, unmatched="skip")
    assert left_out.skipped == {"images without a mask (--unmatched skip)": 1}
    ignored = read_voc(root, unlabelled="background", ignore=["background"])
    assert ignored.splits["train"][1].mask is not None
    assert ignored.splits["train"][1].mask.paint((1, 2)).mask.tolist() == [[255, 255]]


def test_no_background_among_the_classes(root: Path, colors: Callable[..., Path]) -> None:
    (root / "labelmap.txt").write_text("road:128,64,128::\n")
    colors(root / "SegmentationClass" / "2007_000032.png", [[ROAD] * 3] * 2)
    with pytest.raises(ValueError, match="no class is called background"):
        read_voc(root, unlabelled="background")


def test_lists_of_windows_and_of_macos(
    root: Path, picture: Callable[..., Path], colors: Callable[..., Path], convert: Callable[..., Any]
) -> None:
    (root / "labelmap.txt").write_text(LABELMAP)
    picture(root / "JPEGImages" / "day" / "a.jpg", (1, 1))
    colors(root / "SegmentationClass" / "day" / "a.png", [[ROAD]])
    lists(root, **{"Validation": "day\\a\r\n", "._Validation": "damaged"})
    assert convert(read_voc(root)) == {"val": {"day/a": [[1]]}}
