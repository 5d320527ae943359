from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dataset_tools.convert.camvid import ORIGINAL_TRAIN_IDS, read_camvid, segnet_split
from dataset_tools.convert.output import OutputOptions, write_dataset
from dataset_tools.masks import read_mask, write_mask

REAL_SOURCE = Path(__file__).parents[4] / "shared" / "camvid"


@pytest.fixture
def source(tmp_path: Path, picture: Callable[..., Path]) -> Path:
    root = tmp_path / "CamVid"
    for split, count in (("train", 3), ("val", 1), ("test", 2)):
        for number in range(count):
            picture(root / split / f"{split}_{number}.jpg", (24, 36))
            write_mask(root / f"{split}annot" / f"{split}_{number}.png", np.arange(24 * 36).reshape(24, 36) % 12)
    return root


def test_segnet_layout(source: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    done = write_dataset(read_camvid(source), tmp_path / "out", OutputOptions(progress=False))
    assert {split: len(samples) for split, samples in done.description.splits.items()} == {
        "train": 3,
        "val": 1,
        "test": 2,
    }
    assert done.description.num_classes == 11
    sample = done.description.samples("train")[1]
    assert sample.mask is not None
    original, mask = read_mask(source / "trainannot" / "train_1.png"), read_mask(sample.mask)
    assert (mask[original == 11] == 255).all()
    assert np.array_equal(mask[original < 11], original[original < 11])
    assert {path: path.read_bytes() for path in source.rglob("*") if path.is_file()} == before


def test_the_32_colours_are_those_of_the_original() -> None:
    assert len(ORIGINAL_TRAIN_IDS) == 32
    assert sorted(set(ORIGINAL_TRAIN_IDS.values())) == [*range(11), 255]


def test_original_colours(
    tmp_path: Path, picture: Callable[..., Path], colors: Callable[..., Path], convert: Callable[..., Any]
) -> None:
    root = tmp_path / "CamVid"
    frames = ("0001TP_006690", "0016E5_07959", "0001TP_008550", "Seq05VD_f00000")
    for frame in frames:
        picture(root / "701_StillsRaw_full" / f"{frame}.png", (2, 3))
        sky, bridge, shoulder = (128, 128, 128), (0, 128, 64), (128, 128, 192)
        pickup, scooter, void = (64, 128, 192), (192, 0, 192), (0, 0, 0)
        colors(root / "LabeledApproved_full" / f"{frame}_L.png", [[sky, bridge, shoulder], [pickup, scooter, void]])
    expected = [[0, 1, 4], [8, 10, 255]]
    assert convert(read_camvid(root)) == {
        "train": {"0001TP_006690": expected},
        "val": {"0016E5_07959": expected},
        "test": {"0001TP_008550": expected, "Seq05VD_f00000": expected},
    }


def test_original_colours_already_split(
    tmp_path: Path, picture: Callable[..., Path], colors: Callable[..., Path], convert: Callable[..., Any]
) -> None:
    for split in ("train", "val", "test"):
        picture(tmp_path / "c" / split / "0001TP_006690.png", (1, 2))
        colors(tmp_path / "c" / f"{split}_labels" / "0001TP_006690_L.png", [[(128, 64, 128), (64, 64, 0)]])
    masks = convert(read_camvid(tmp_path / "c"))
    assert masks == {split: {"0001TP_006690": [[3, 9]]} for split in ("train", "val", "test")}


def test_unknown_colours_are_counted(tmp_path: Path, picture: Callable[..., Path], colors: Callable[..., Path]) -> None:
    for split in ("train", "val", "test"):
        picture(tmp_path / "c" / split / "a.png", (1, 3))
        colors(tmp_path / "c" / f"{split}_labels" / "a_L.png", [[(128, 64, 128), (1, 2, 3), (1, 2, 3)]])
    with pytest.raises(ValueError, match=r"a_L\.png holds unknown colours: \(1, 2, 3\) \(2 pixels\)"):
        write_dataset(read_camvid(tmp_path / "c"), tmp_path / "out", OutputOptions(progress=False))


@pytest.mark.parametrize("name", ["holiday", "0001TP", "0042XX_000010"])
def test_foreign_frames_have_no_split(name: str) -> None:
    with pytest.raises(ValueError, match="no frame of CamVid"):
        segnet_split(name)


def test_unmatched_files_are_all_named(source: Path, tmp_path: Path) -> None:
    (source / "trainannot" / "train_2.png").rename(source / "trainannot" / "train_20.png")
    (source / "val" / "val_0.png").write_bytes(b"twin")
    with pytest.raises(ValueError, match="do not match") as caught:
        read_camvid(source)
    for expected in ("no mask for", "train_2.jpg", "no image for", "train_20.png", "two images of one name"):
        assert expected in str(caught.value)


def test_not_camvid(source: Path) -> None:
    (source / "valannot").rename(source / "vallabels")
    with pytest.raises(FileNotFoundError, match=r"missing .*valannot"):
        read_camvid(source)


def test_unknown_value(source: Path, tmp_path: Path) -> None:
    write_mask(source / "valannot" / "val_0.png", np.full((24, 36), 12, np.uint8))
    with pytest.raises(ValueError, match=r"val_0\.png holds unknown values: 12 \(864 pixels\)"):
        write_dataset(read_camvid(source), tmp_path / "out", OutputOptions(progress=False))


@pytest.mark.skipif(not REAL_SOURCE.is_dir(), reason="the CamVid copy is not on this machine")
def test_segnets_split_by_frame_number_is_the_real_one() -> None:
    for split in ("train", "val", "test"):
        stems = [path.stem for path in (REAL_SOURCE / split).iterdir()]
        assert {segnet_split(stem) for stem in stems} == {split}


@pytest.mark.slow
@pytest.mark.skipif(not REAL_SOURCE.is_dir(), reason="the CamVid copy is not on this machine")
def test_real_camvid(tmp_path: Path) -> None:
    done = write_dataset(read_camvid(REAL_SOURCE), tmp_path / "camvid", OutputOptions(progress=False))
    assert [len(samples) for samples in done.description.splits.values()] == [367, 101, 233]
    assert (done.made, done.kept, done.skipped) == (701, 0, {})
