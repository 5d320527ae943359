from pathlib import Path

import cv2
import numpy as np
import pytest

from dataset_tools.checks import verify_split
from dataset_tools.convert.camvid import convert_camvid
from dataset_tools.description import load_description
from dataset_tools.masks import read_mask, write_mask

REAL_SOURCE = Path(__file__).parents[4] / "shared" / "camvid"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "CamVid"
    for split, count in (("train", 3), ("val", 1), ("test", 2)):
        for number in range(count):
            image = root / split / f"{split}_{number}.jpg"
            image.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(image), np.full((24, 36, 3), 40 * number, np.uint8))
            write_mask(root / f"{split}annot" / f"{split}_{number}.png", np.arange(24 * 36).reshape(24, 36) % 12)
    return root


def snapshot(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("image_mode", ["link", "copy"])
def test_converts(source: Path, tmp_path: Path, image_mode: str) -> None:
    before = snapshot(source)
    out = tmp_path / "out"
    convert_camvid(source, out, image_mode=image_mode, progress=False)  # type: ignore[arg-type]
    description = load_description(out)
    assert description.num_classes == 11
    assert {split: len(samples) for split, samples in description.splits.items()} == {"train": 3, "val": 1, "test": 2}
    verify_split(description, "train+val+test", sample_limit=None)
    sample = description.samples("train")[1]
    assert sample.image.is_symlink() == (image_mode == "link")
    assert sample.image.read_bytes() == (source / "train" / "train_1.jpg").read_bytes()
    assert sample.mask is not None
    original, mask = read_mask(source / "trainannot" / "train_1.png"), read_mask(sample.mask)
    assert (mask[original == 11] == 255).all()
    assert np.array_equal(mask[original < 11], original[original < 11])
    assert snapshot(source) == before


def test_goes_on_after_a_cut(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert_camvid(source, out, progress=False)
    kept, lost = out / "masks" / "train" / "train_0.png", out / "masks" / "train" / "train_1.png"
    written = kept.stat().st_mtime_ns
    lost.unlink()
    (out / "dataset.yaml").unlink()
    convert_camvid(source, out, progress=False)
    assert lost.is_file()
    assert kept.stat().st_mtime_ns == written
    assert load_description(out).num_classes == 11


def test_unmatched_files_are_all_named(source: Path, tmp_path: Path) -> None:
    (source / "trainannot" / "train_2.png").rename(source / "trainannot" / "train_20.png")
    (source / "val" / "val_0.png").write_bytes(b"twin")
    with pytest.raises(ValueError, match="do not match") as caught:
        convert_camvid(source, tmp_path / "out", progress=False)
    for expected in (r"no mask for", "train_2.jpg", "no image for", "train_20.png", "two images of one name"):
        assert expected in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_not_camvid(source: Path, tmp_path: Path) -> None:
    (source / "valannot").rename(source / "vallabels")
    with pytest.raises(FileNotFoundError, match=r"missing .*valannot"):
        convert_camvid(source, tmp_path / "out", progress=False)


def test_unknown_value(source: Path, tmp_path: Path) -> None:
    write_mask(source / "valannot" / "val_0.png", np.full((24, 36), 12, np.uint8))
    with pytest.raises(ValueError, match=r"val_0\.png holds unknown values: 12 \(864 pixels\)"):
        convert_camvid(source, tmp_path / "out", progress=False)


def test_nothing_of_others_is_touched(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="was not made by"):
        convert_camvid(source, out, progress=False)
    assert [path.name for path in out.iterdir()] == ["notes.txt"]


@pytest.mark.slow
@pytest.mark.skipif(not REAL_SOURCE.is_dir(), reason="the CamVid copy is not on this machine")
def test_real_camvid(tmp_path: Path) -> None:
    description = convert_camvid(REAL_SOURCE, tmp_path / "camvid", progress=False)
    assert [len(samples) for samples in description.splits.values()] == [367, 101, 233]
    verify_split(description, "train+val+test", sample_limit=60)
