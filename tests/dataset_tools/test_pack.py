import pickle
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from dataset_tools.description import DatasetDescription, load_description, save_description
from dataset_tools.masks import read_mask, write_mask
from dataset_tools.pack import (
    HEADER,
    HEADER_BYTES,
    MAGIC,
    PackedReader,
    find_packed,
    is_pack,
    pack_path,
    plan_pack,
    read_index,
    write_pack,
)
from dataset_tools.samples import Sample
from fasterseg.base.images import read_image

MakeDataset = Callable[..., DatasetDescription]


def write(description: DatasetDescription, split: str = "train") -> Path:
    plan = plan_pack(description, split)
    write_pack(description, plan, progress=False)
    return plan.path


def odd_dataset(root: Path) -> DatasetDescription:
    """Images of several sizes and names, one of them without a mask."""
    generator, samples = np.random.default_rng(0), []
    for number, (name, size) in enumerate((("a b", (5, 7)), ("two\nlines", (64, 1)), ("街's", (33, 100)))):
        image, mask = root / f"{name}.png", root / "masks" / f"{name}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        image.write_bytes(cv2.imencode(".png", generator.integers(0, 255, (*size, 3), np.uint8))[1].tobytes())
        write_mask(mask, generator.integers(0, 2, size).astype(np.uint8))
        samples.append(Sample(image, None if number == 1 else mask))
    save_description(DatasetDescription(root, "odd", ("a", "b"), ((0, 0, 0), (9, 9, 9)), {"train": tuple(samples)}))
    return load_description(root)


def test_the_file_is_what_the_description_of_it_says(tmp_path: Path) -> None:
    """Read once more here, with nothing but the format in hand."""
    description = odd_dataset(tmp_path / "my set")
    path = write(description)
    data = path.read_bytes()
    magic, version, _, index_offset, index_length = HEADER.unpack_from(data)
    assert (magic, version, index_offset + index_length) == (MAGIC, 1, len(data))
    content, packed = read_index(path)
    assert content["split"] == "train"
    for sample, entry in zip(description.samples("train"), packed, strict=True):
        height, width = entry.size
        assert entry.image_offset % 64 == 0
        assert entry.image_offset >= HEADER_BYTES
        pixels = np.frombuffer(data, np.uint8, 3 * height * width, entry.image_offset).reshape(height, width, 3)
        assert np.array_equal(pixels, read_image(sample.image))
        if sample.mask is None:
            assert entry.mask_offset is None
        else:
            assert entry.mask_offset is not None
            ids = np.frombuffer(data, np.uint8, height * width, entry.mask_offset).reshape(height, width)
            assert np.array_equal(ids, read_mask(sample.mask))


def test_plan_knows_whether_the_pack_is_current(make_dataset: MakeDataset) -> None:
    description = make_dataset()
    plan = plan_pack(description, "train")
    assert not plan.is_current
    assert not pack_path(description.root, "train").parent.exists()
    path = write(description)
    assert path == description.root / "packs" / "train.pack"
    assert plan_pack(description, "train").is_current
    assert not plan_pack(replace(description, ignore_index=254), "train").is_current
    mask = description.samples("train")[1].mask
    assert mask is not None
    write_mask(mask, np.ones((48, 80), np.uint8))
    assert not plan_pack(description, "train").is_current
    write(description)
    assert plan_pack(description, "train").is_current


def test_a_cut_leaves_the_former_pack(make_dataset: MakeDataset) -> None:
    description = make_dataset()
    path = write(description)
    before = path.read_bytes()
    samples = description.samples("train")
    plan = plan_pack(description, "train")
    samples[3].image.write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"image cannot be read: .*street 3\.png \(train\.txt:5\)"):
        write_pack(description, plan, progress=False)
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == ["train.pack"]


def test_what_is_wrong_is_not_packed(make_dataset: MakeDataset) -> None:
    description = make_dataset()
    mask = description.samples("train")[2].mask
    assert mask is not None
    write_mask(mask, np.full((48, 80), 77, np.uint8))
    with pytest.raises(ValueError, match="77"):
        write(description)
    mask.unlink()
    with pytest.raises(FileNotFoundError, match=r"street 2\.png \(train\.txt:4\)"):
        plan_pack(description, "train")
    assert not pack_path(description.root, "train").exists()


def test_a_file_that_changes_meanwhile(make_dataset: MakeDataset) -> None:
    description = make_dataset()
    plan = plan_pack(description, "train")
    image = description.samples("train")[0].image
    image.write_bytes(cv2.imencode(".png", np.zeros((48, 80, 3), np.uint8))[1].tobytes())
    with pytest.raises(ValueError, match="changed while it was packed"):
        write_pack(description, plan, progress=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-1], "cut off or damaged"),
        (lambda data: data[:40], "is no pack"),
        (lambda data: b"x" + data[1:], "is no pack"),
        (lambda data: data[:8] + b"\x09" + data[9:], "has the version 9"),
        (lambda data: data.replace(b"street 0.png", b"street 9.png"), "damaged index"),
    ],
)
def test_damaged_packs(make_dataset: MakeDataset, change: Callable[[bytes], bytes], message: str) -> None:
    description = make_dataset()
    path = write(description)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=message):
        read_index(path)
    assert not plan_pack(description, "train").is_current


def test_is_pack(make_dataset: MakeDataset, tmp_path: Path) -> None:
    path = write(make_dataset())
    (tmp_path / "link").symlink_to(path)
    assert [is_pack(each) for each in (path, tmp_path / "link", tmp_path, tmp_path / "none")] == [True] + [False] * 3


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
