from collections.abc import Callable

import numpy as np
import pytest

from dataset_tools.description import DatasetDescription
from dataset_tools.doctor.fast import verify_split
from dataset_tools.masks import write_mask

MakeDataset = Callable[..., DatasetDescription]


def test_sound(make_dataset: MakeDataset) -> None:
    verify_split(make_dataset(), "train+val")


def test_all_problems_at_once(make_dataset: MakeDataset) -> None:
    description = make_dataset(train=6)
    samples = description.samples("train")
    masks = [sample.mask for sample in samples if sample.mask is not None]
    samples[0].image.unlink()
    masks[1].unlink()
    samples[2].image.write_bytes(b"damaged")
    write_mask(masks[3], np.zeros((5, 5), np.uint8))
    write_mask(masks[4], np.full((48, 80), 77, np.uint8))
    with pytest.raises(ValueError, match="has problems") as caught:
        verify_split(description, "train", sample_limit=None)
    message = str(caught.value)
    for expected in (
        "image not found",
        "mask not found",
        "image cannot be read",
        "differ in size",
        "77 (3840 pixels)",
    ):
        assert message.count(expected) == 1
    for number in range(2, 7):
        assert f"train.txt:{number}" in message
    assert "train.txt:7" not in message


def test_sample_is_limited_but_existence_is_not(make_dataset: MakeDataset) -> None:
    description = make_dataset(train=9)
    samples = description.samples("train")
    samples[1].image.write_bytes(b"damaged")
    verify_split(description, "train", sample_limit=3)
    verify_split(description, "train", sample_limit=1)
    samples[4].image.write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"train\.txt:6"):
        verify_split(description, "train", sample_limit=3)
    samples[2].image.unlink()
    with pytest.raises(ValueError, match=r"train\.txt:4"):
        verify_split(description, "train", sample_limit=1)


def test_long_lists_are_cut(make_dataset: MakeDataset) -> None:
    description = make_dataset(train=25)
    for sample in description.samples("train"):
        sample.image.unlink()
    with pytest.raises(ValueError, match=r"\.\.\. and 15 more"):
        verify_split(description, "train")


def test_empty_split(make_dataset: MakeDataset) -> None:
    with pytest.raises(ValueError, match="empty"):
        verify_split(make_dataset(val=0), "val")
