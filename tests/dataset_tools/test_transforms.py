import numpy as np
import pytest
import torch

from dataset_tools.crops import check_crop_size
from dataset_tools.transforms import EvalTransform, TrainTransform, resize_label

IDENTITY = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def pair(height: int = 64, width: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """An image whose first two channels are its row and column, and the column as label."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, rows], axis=2).astype(np.uint8), columns.astype(np.uint8)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((500, 512), "crop_size_px height 500 is not divisible by 32; use 480 or 512"),
        ((512, 33), "crop_size_px width 33 is not divisible by 32; use 32 or 64"),
        ((16, 64), "crop_size_px height 16 is less than 32; use 32 or more"),
    ],
)
def test_crop_size(size: tuple[int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_crop_size(size)
    with pytest.raises(ValueError, match=message):
        TrainTransform(size)


@pytest.mark.parametrize(
    "wrong",
    [{"scales": ()}, {"scales": (0.0,)}, {"flip_probability": 1.5}, {"image_scale": 0.0}, {"min_valid_fraction": -1.0}],
)
def test_fields_are_checked(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TrainTransform((32, 32), **wrong)  # type: ignore[arg-type]


def test_resize_label_takes_the_nearest_centre() -> None:
    label = np.arange(6, dtype=np.uint8)[None].repeat(2, axis=0)
    assert resize_label(label, (2, 2))[0].tolist() == [1, 4]
    assert resize_label(label, (2, 12))[0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert resize_label(label, (1, 3)).shape == (1, 3)


def test_evaluation_scales_image_and_label() -> None:
    image, label = pair(40, 60)
    tensor, target = EvalTransform(image_scale=0.5)(image, label, np.random.default_rng(0))
    assert tensor.shape == (3, 20, 30)
    assert target.shape == (20, 30)
    assert target.dtype == torch.int64


def test_image_and_label_stay_together() -> None:
    image, label = pair()
    transform = TrainTransform((32, 64), scales=(1.0,), **IDENTITY)  # type: ignore[arg-type]
    for seed in range(10):
        tensor, target = transform(image, label, np.random.default_rng(seed))
        assert tensor.shape == (3, 32, 64)
        assert torch.equal((tensor[1] * 255).round().long(), target)


def test_flip_probability() -> None:
    image, label = pair()
    flipped = []
    for probability in (0.0, 1.0):
        transform = TrainTransform((64, 96), scales=(1.0,), flip_probability=probability, **IDENTITY)  # type: ignore[arg-type]
        flipped.append(transform(image, label, np.random.default_rng(0)))
    assert torch.equal(flipped[0][0], flipped[1][0].flip(2))
    assert torch.equal(flipped[0][1], flipped[1][1].flip(1))


def test_scale_is_drawn_from_the_list() -> None:
    image, label = pair()
    steps = set()
    for seed in range(30):
        transform = TrainTransform((32, 32), scales=(0.5, 2.0), flip_probability=0.0, **IDENTITY)  # type: ignore[arg-type]
        _, target = transform(image, label, np.random.default_rng(seed))
        steps.add(int(target[0, 20] - target[0, 0]))
    assert steps == {10, 40}


def test_small_images_are_padded() -> None:
    image, label = pair(20, 20)
    transform = TrainTransform((32, 64), scales=(1.0,), mean=(0.4, 0.4, 0.4), std=(1.0, 1.0, 1.0))
    corners = set()
    for seed in range(5):
        tensor, target = transform(image, label, np.random.default_rng(seed))
        inside = target != 255
        assert int(inside.sum()) == 400
        assert tensor[:, ~inside].abs().max() < 1e-6
        corners.add(tuple(torch.nonzero(inside)[0].tolist()))
    assert len(corners) > 1


def test_crops_without_labels_are_drawn_again() -> None:
    image, _ = pair(256, 256)
    label = np.full((256, 256), 255, np.uint8)
    label[:64, :128] = 1
    generator = np.random.default_rng(0)
    strict = TrainTransform((64, 64), scales=(1.0,), min_valid_fraction=0.05)
    loose = TrainTransform((64, 64), scales=(1.0,), min_valid_fraction=0.0)
    found = {
        transform: sum(bool((transform(image, label, generator)[1] != 255).any()) for _ in range(60))
        for transform in (strict, loose)
    }
    assert found[strict] > found[loose]
    # Nothing to be found is no reason to fail.
    empty = np.full_like(label, 255)
    assert (strict(image, empty, generator)[1] == 255).all()
