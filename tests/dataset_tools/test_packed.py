import pickle
import warnings
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from dataset_tools.description import DatasetDescription
from dataset_tools.masks import read_mask, write_mask
from dataset_tools.pack import pack_path, plan_pack, write_pack
from dataset_tools.packed import PackedReader, find_packed
from fasterseg.base.images import read_image

MakeDataset = Callable[..., DatasetDescription]


def packed(description: DatasetDescription, *splits: str) -> DatasetDescription:
    for split in splits:
        write_pack(description, plan_pack(description, split), progress=False)
    return description


def found(description: DatasetDescription, split: str) -> PackedReader | None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return find_packed(description, description.samples(split))


def test_pairs_are_those_of_the_files(make_dataset: MakeDataset) -> None:
    description = packed(make_dataset(), "train", "val")
    samples = description.samples("val+train")
    reader = found(description, "val+train")
    assert reader is not None
    for copy in (reader, pickle.loads(pickle.dumps(reader))):
        for position, sample in enumerate(samples):
            image, label = copy.read(position)
            assert sample.mask is not None
            assert np.array_equal(image, read_image(sample.image))
            assert np.array_equal(label, read_mask(sample.mask))
            assert not image.flags.writeable
    # the copy for another process holds no pixels
    assert len(pickle.dumps(reader)) < 4000


def test_a_sample_without_mask(make_dataset: MakeDataset) -> None:
    description = make_dataset(train=1)
    unlabelled = replace(description, splits={"train": (description.samples("train")[0]._replace(mask=None),)})
    reader = found(packed(unlabelled, "train"), "train")
    assert reader is not None
    assert (reader.read(0)[1] == 255).all()


def test_no_pack_no_word(make_dataset: MakeDataset) -> None:
    description = make_dataset()
    assert found(description, "train") is None
    assert found(packed(description, "train"), "val") is None


def test_other_splits_of_the_same_images(make_dataset: MakeDataset) -> None:
    description = packed(make_dataset(train=6), "train")
    half = replace(description, splits={"a": description.samples("train")[::2]})
    reader = found(half, "a")
    assert reader is not None
    assert np.array_equal(reader.read(1)[0], read_image(half.samples("a")[1].image))


@pytest.mark.parametrize("change", ["mask", "image", "other mask", "classes", "damage", "one more"])
def test_outdated_packs_are_noticed(make_dataset: MakeDataset, change: str) -> None:
    description = packed(make_dataset(train=4), "train")
    samples = description.samples("train")
    expected = {"mask": "1 have changed", "image": "1 have changed", "other mask": "1 have changed"}
    expected |= {
        "classes": "other classes",
        "damage": "cut off or damaged",
        "one more": "1 of 5 images are not in them",
    }
    if change == "mask":
        assert samples[1].mask is not None
        write_mask(samples[1].mask, np.zeros((48, 80), np.uint8))
    elif change == "image":
        samples[1].image.touch()
    elif change == "other mask":
        swapped = (samples[0]._replace(mask=samples[1].mask), *samples[1:])
        description = replace(description, splits={"train": swapped})
    elif change == "classes":
        description = replace(description, ignore_index=200)
    elif change == "damage":
        path = pack_path(description.root, "train")
        path.write_bytes(path.read_bytes()[:-5])
    else:
        description = replace(description, splits={"train": (*samples, *description.splits["val"][:1])})
    with pytest.warns(UserWarning, match=r"are not used .*python -m dataset_tools pack") as caught:
        assert find_packed(description, description.samples("train")) is None
    assert expected[change] in str(caught[0].message)
    if change == "mask":
        assert found(packed(description, "train"), "train") is not None


def test_an_outdated_pack_beside_a_current_one(make_dataset: MakeDataset) -> None:
    description = packed(make_dataset(train=4), "train")
    description.samples("train")[0].image.touch()
    packed(replace(description, splits={"again": description.samples("train")}), "again")
    assert found(description, "train") is not None
