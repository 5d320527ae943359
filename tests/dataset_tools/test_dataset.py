from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from dataset_tools.dataset import Draw, SegmentationDataset
from dataset_tools.description import DatasetDescription
from dataset_tools.masks import write_mask
from dataset_tools.samples import Sample
from dataset_tools.transforms import EvalTransform, TrainTransform
from fasterseg.base.images import read_image


def open_dataset(samples: list[Sample]) -> SegmentationDataset:
    return SegmentationDataset(samples, EvalTransform(), num_classes=3, ignore_index=255)


@pytest.fixture
def pair(tmp_path: Path) -> Sample:
    image, mask = tmp_path / "a.png", tmp_path / "a_mask.png"
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[..., 2] = 200
    cv2.imwrite(str(image), pixels)
    write_mask(mask, np.ones((40, 60), np.uint8))
    return Sample(image, mask, "train.txt:7")


def test_item(pair: Sample) -> None:
    item = open_dataset([pair])[0]
    assert item.image.shape == (3, 40, 60)
    assert item.image.dtype == torch.float32
    assert item.label.dtype == torch.int64
    assert item.name == "a"
    # OpenCV stores BGR: the third channel that was written is red here.
    assert torch.allclose(
        item.image[:, 0, 0], torch.tensor([(200 / 255 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225])
    )


def test_without_mask_everything_is_ignored(pair: Sample) -> None:
    assert (open_dataset([Sample(pair.image, None)])[0].label == 255).all()


@pytest.mark.parametrize("kind", ["image", "mask"])
def test_missing_file_names_file_and_line(pair: Sample, kind: str) -> None:
    path = getattr(pair, kind)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=rf"{kind} not found: .*{path.name} \(train\.txt:7\)"):
        open_dataset([pair])[0]


@pytest.mark.parametrize("ending", [".png", ".jpg"])
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.97])
def test_cut_off_image(tmp_path: Path, ending: str, kept: float) -> None:
    path = tmp_path / f"cut{ending}"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(ValueError, match=rf"image cannot be read: .*cut{ending} \(val\.txt:2\)"):
        read_image(path, "val.txt:2")


def test_not_an_image(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(ValueError, match=r"text\.png"):
        read_image(tmp_path / "text.png")


def test_orientation_tag_is_not_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg").shape == (20, 30, 3)


def test_sizes_differ(pair: Sample) -> None:
    assert pair.mask is not None
    write_mask(pair.mask, np.zeros((20, 60), np.uint8))
    with pytest.raises(ValueError, match=r"a\.png is 40x60, .*a_mask\.png \(train\.txt:7\) is 20x60"):
        open_dataset([pair])[0]


def test_value_outside_the_classes(pair: Sample) -> None:
    assert pair.mask is not None
    write_mask(pair.mask, np.full((40, 60), 4, np.uint8))
    with pytest.raises(ValueError, match=r"a_mask\.png \(train\.txt:7\) .* 4 \(2400 pixels\); allowed are 0\.\.2"):
        open_dataset([pair])[0]


def test_empty() -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        open_dataset([])


def test_same_draw_same_item(make_dataset: Callable[..., DatasetDescription]) -> None:
    samples = make_dataset().samples("train")
    dataset = SegmentationDataset(samples, TrainTransform((32, 32)), num_classes=3, ignore_index=255)
    first, again, other = (dataset[Draw(2, seed)] for seed in ((1, 2), (1, 2), (1, 3)))
    assert torch.equal(first.image, again.image)
    assert torch.equal(first.label, again.label)
    assert not torch.equal(first.image, other.image)
