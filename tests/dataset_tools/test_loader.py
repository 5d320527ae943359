from collections import Counter
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from dataset_tools.dataset import LabeledImage, SegmentationDataset
from dataset_tools.description import DatasetDescription
from dataset_tools.loader import EndlessSampler, TrainLoader, build_eval_loader, build_train_loader, select_subset
from dataset_tools.masks import read_mask
from dataset_tools.pack import plan_pack, write_pack


def test_halves_are_disjoint_and_complete() -> None:
    items = [f"image {number}" for number in range(11)]
    first, second = (select_subset(items, half, seed=4) for half in ("first_half", "second_half"))
    assert len(first) == 5
    assert not set(first) & set(second)
    assert set(first) | set(second) == set(items)
    assert first == select_subset(items, "first_half", seed=4)
    assert first != select_subset(items, "first_half", seed=5)
    assert select_subset(items, "all", seed=4) == tuple(items)


def test_halves_need_two_images() -> None:
    with pytest.raises(ValueError, match="1 images cannot be divided"):
        select_subset(["a"], "first_half", seed=0)
    with pytest.raises(ValueError, match="expected all, first_half or second_half"):
        select_subset(["a", "b"], "third", seed=0)  # type: ignore[arg-type]


def draws(sampler: EndlessSampler, epoch: int) -> list[tuple[int, tuple[int, ...]]]:
    sampler.start_epoch(epoch)
    return [(draw.position, draw.seed) for draw in sampler]


def test_stream_goes_on_over_epochs() -> None:
    sampler = EndlessSampler(10, draws_per_epoch=4, seed=1)
    stream = [draw for epoch in range(10) for draw in draws(sampler, epoch)]
    for start in range(0, 40, 10):
        assert sorted(position for position, _ in stream[start : start + 10]) == list(range(10))
    assert len({seed for _, seed in stream}) == 40
    assert [position for position, _ in stream[:10]] != [position for position, _ in stream[10:20]]


@pytest.mark.parametrize("world_size", [1, 2])
def test_an_epoch_can_start_anywhere(world_size: int) -> None:
    for rank in range(world_size):
        sampler = EndlessSampler(7, draws_per_epoch=6, seed=1, rank=rank, world_size=world_size)
        whole = draws(sampler, 2)
        for first in range(len(whole) + 1):
            sampler.start_epoch(2, first_draw=first)
            assert [(draw.position, draw.seed) for draw in sampler] == whole[first:]
            assert len(sampler) == len(whole)


def test_the_draws_of_a_seed_are_those_recorded() -> None:
    """Recorded runs repeat only while the order, the seeds of the augmentation and the halves stay."""
    sampler = EndlessSampler(7, draws_per_epoch=5, seed=3)
    for epoch, positions in ((0, [2, 1, 4, 0, 5]), (2, [0, 2, 6, 1, 4])):
        assert draws(sampler, epoch) == [(at, (3, 2, 5 * epoch + number)) for number, at in enumerate(positions)]
    assert select_subset(range(9), "first_half", seed=3) == (1, 3, 5, 8)


def test_epoch_longer_than_the_split() -> None:
    sampler = EndlessSampler(3, draws_per_epoch=10, seed=1)
    counts = Counter(position for position, _ in draws(sampler, 0))
    assert sorted(counts.values()) == [3, 3, 4]


def test_epochs_are_repeatable_and_different() -> None:
    one, two = (EndlessSampler(20, draws_per_epoch=20, seed=7) for _ in range(2))
    draws(one, 0)
    assert draws(one, 3) == draws(two, 3)
    assert draws(one, 3) != draws(one, 4)
    assert draws(one, 3) != draws(EndlessSampler(20, draws_per_epoch=20, seed=8), 3)


def test_processes_divide_an_epoch() -> None:
    whole = draws(EndlessSampler(9, draws_per_epoch=12, seed=2), 1)
    parts = [draws(EndlessSampler(9, draws_per_epoch=12, seed=2, rank=rank, world_size=3), 1) for rank in range(3)]
    assert [part[number] for number in range(4) for part in parts] == whole
    with pytest.raises(ValueError, match="not divisible"):
        EndlessSampler(9, draws_per_epoch=10, seed=2, world_size=3)


MakeDataset = Callable[..., DatasetDescription]


def build(description: DatasetDescription, **changes: Any) -> TrainLoader:
    arguments: dict[str, Any] = {"split": "train", "crop_size_px": (32, 64), "batch_size": 2, "seed": 5}
    return build_train_loader(description, **{**arguments, **changes})


def epoch_of(loader: TrainLoader, epoch: int) -> list[LabeledImage]:
    loader.set_epoch(epoch)
    return list(loader)


def equal(first: list[LabeledImage], second: list[LabeledImage]) -> bool:
    return all(
        torch.equal(a.image, b.image) and torch.equal(a.label, b.label) and a.name == b.name
        for a, b in zip(first, second, strict=True)
    )


def test_batches(make_dataset: MakeDataset) -> None:
    batches = epoch_of(build(make_dataset(), iterations_per_epoch=4), 0)
    assert len(batches) == 4
    for batch in batches:
        assert batch.image.shape == (2, 3, 32, 64)
        assert batch.image.dtype == torch.float32
        assert batch.label.shape == (2, 32, 64)
        assert batch.label.dtype == torch.int64
        assert len(batch.name) == 2
        assert set(batch.label.flatten().tolist()) <= {0, 1, 2, 255}


def test_one_pass_is_rounded_up_to_whole_batches(make_dataset: MakeDataset) -> None:
    loader = build(make_dataset(train=5))
    assert len(loader) == 3
    names = [name for batch in epoch_of(loader, 0) for name in batch.name]
    assert len(names) == 6
    assert len(set(names)) == 5


def test_batches_do_not_depend_on_workers(make_dataset: MakeDataset) -> None:
    description = make_dataset()
    alone, helped = (build(description, iterations_per_epoch=3, num_workers=workers) for workers in (0, 2))
    for epoch in (0, 1, 4):
        assert equal(epoch_of(alone, epoch), epoch_of(helped, epoch))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_epoch_gone_on_with_gives_the_batches_that_were_left(make_dataset: MakeDataset, num_workers: int) -> None:
    loader = build(make_dataset(), iterations_per_epoch=3, num_workers=num_workers)
    whole = epoch_of(loader, 1)
    loader.set_epoch(1, 2)
    assert len(loader) == 3
    assert equal(list(loader), whole[2:])
    assert equal(epoch_of(loader, 1), whole)


def test_epochs_and_seeds_differ(make_dataset: MakeDataset) -> None:
    description = make_dataset()
    loader = build(description)
    assert not equal(epoch_of(loader, 0), epoch_of(loader, 1))
    assert equal(epoch_of(loader, 1), epoch_of(build(description), 1))
    assert not equal(epoch_of(loader, 0), epoch_of(build(description, seed=6), 0))


def test_global_random_state_is_left_alone(make_dataset: MakeDataset) -> None:
    loader = build(make_dataset())
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    epoch_of(loader, 0)
    assert torch.equal(torch.rand(3), expected)


def test_halves_are_disjoint_images(make_dataset: MakeDataset) -> None:
    description = make_dataset(train=7)
    names = [
        {name for batch in epoch_of(build(description, subset=half, batch_size=1), 0) for name in batch.name}
        for half in ("first_half", "second_half")
    ]
    assert not names[0] & names[1]
    assert len(names[0] | names[1]) == 7


def test_joined_splits(make_dataset: MakeDataset) -> None:
    assert len(build(make_dataset(train=5, val=3), split="train+val", batch_size=1)) == 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crop_size_px": (50, 64)}, "height 50 is not divisible by 32; use 32 or 64"),
        ({"batch_size": 0}, "batch_size is 0, expected 1 or more"),
        ({"num_workers": -1}, "num_workers is -1"),
        ({"iterations_per_epoch": 0}, "iterations_per_epoch is 0"),
        ({"split": "trian"}, "no split 'trian'"),
        ({"scales": []}, "scales is empty"),
    ],
)
def test_wrong_arguments(make_dataset: MakeDataset, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(make_dataset(), **change)


def test_empty_split(make_dataset: MakeDataset) -> None:
    description = make_dataset(val=0)
    with pytest.raises(ValueError, match="split 'val' .* is empty"):
        build_eval_loader(description, split="val")


def test_evaluation_gives_whole_images_in_order(make_dataset: MakeDataset) -> None:
    description = make_dataset(val=3)
    batches = list(build_eval_loader(description, split="val", image_scale=0.5, batch_size=2))
    assert [batch.name for batch in batches] == [["street 0", "street 1"], ["street 2"]]
    assert batches[0].image.shape == (2, 3, 24, 40)
    assert batches[0].label.shape == (2, 24, 40)


def test_processes_share_a_step_and_the_evaluation(make_dataset: MakeDataset) -> None:
    description = make_dataset(val=3)
    whole = epoch_of(build(description, batch_size=4, iterations_per_epoch=3), 1)
    shares = [
        epoch_of(build(description, batch_size=2, iterations_per_epoch=3, rank=rank, world_size=2), 1)
        for rank in range(2)
    ]
    for step, batch in enumerate(whole):
        for rank in range(2):
            assert torch.equal(shares[rank][step].image, batch.image[rank::2])
    evaluated = [
        [name for batch in build_eval_loader(description, split="val", rank=rank, world_size=4) for name in batch.name]
        for rank in range(4)
    ]
    assert evaluated == [["street 0"], ["street 1"], ["street 2"], []]


def test_batch_of_different_sizes(make_dataset: MakeDataset) -> None:
    description = make_dataset(val=2)
    first = description.samples("val")[0]
    cv2.imwrite(str(first.image), np.zeros((30, 30, 3), np.uint8))
    assert first.mask is not None
    cv2.imwrite(str(first.mask), np.zeros((30, 30), np.uint8))
    with pytest.raises(ValueError, match="street 0 30x30, street 1 48x80.*batch_size 1"):
        list(build_eval_loader(description, split="val", batch_size=2))


def test_packs_give_the_same_batches(make_dataset: MakeDataset) -> None:
    description = make_dataset()
    files, whole = build(description), build_eval_loader(description, split="val", image_scale=0.5)
    for split in ("train", "val"):
        write_pack(description, plan_pack(description, split), progress=False)
    packed = build(description, num_workers=2)
    assert isinstance(packed.dataset, SegmentationDataset)
    assert packed.dataset.packed is not None
    assert equal(epoch_of(files, 2), epoch_of(packed, 2))
    assert equal(list(whole), list(build_eval_loader(description, split="val", image_scale=0.5, num_workers=1)))


def test_an_outdated_pack_is_said_and_not_used(make_dataset: MakeDataset) -> None:
    description = make_dataset()
    write_pack(description, plan_pack(description, "train"), progress=False)
    sample = description.samples("train")[0]
    cv2.imwrite(str(sample.image), np.full((48, 80, 3), 7, np.uint8))
    with pytest.warns(UserWarning, match=f"python -m dataset_tools pack {description.root}"):
        loader = build(description, crop_size_px=(32, 32), scales=[1.0], batch_size=1)
    shown = {str(batch.name[0]): batch.image for batch in epoch_of(loader, 0)}
    assert shown["street 0"].std(dim=(2, 3)).max() < 1e-6


def test_values_are_those_of_the_plain_formulation(make_dataset: MakeDataset) -> None:
    """Scale the whole image, cut, flip, normalise: written down once more without windows."""
    description = make_dataset(train=8, size=(96, 160))
    samples = {sample.image.stem: sample for sample in description.samples("train")}
    loader = build(description, batch_size=1, crop_size_px=(64, 96), scales=[0.5, 0.75, 1.25], seed=3)
    keys = list(loader.sampler)
    for key, batch in zip(keys, epoch_of(loader, 0), strict=True):
        generator = np.random.default_rng(key.seed)
        flip, scale = generator.random() < 0.5, [0.5, 0.75, 1.25][int(generator.integers(3))]
        sample = samples[batch.name[0]]
        height, width = round(96 * scale), round(160 * scale)
        image = cv2.resize(cv2.imread(str(sample.image))[:, :, ::-1], (width, height))
        assert sample.mask is not None
        rows = [int((row + 0.5) / scale) for row in range(height)]
        columns = [int((column + 0.5) / scale) for column in range(width)]
        label = read_mask(sample.mask)[rows][:, columns]
        corner = [int(generator.integers(min(0, a - b), max(0, a - b) + 1)) for a, b in ((height, 64), (width, 96))]
        inside = torch.zeros(64, 96, dtype=torch.bool)
        expected, ids = torch.zeros(64, 96, 3), torch.full((64, 96), 255)
        for y in range(64):
            for x in range(96):
                if 0 <= y + corner[0] < height and 0 <= x + corner[1] < width:
                    inside[y, x] = True
                    expected[y, x] = torch.from_numpy(image[y + corner[0], x + corner[1]].astype(np.float32))
                    ids[y, x] = int(label[y + corner[0], x + corner[1]])
        expected = (expected / 255 - torch.tensor(description.mean)) / torch.tensor(description.std)
        if flip:
            inside, expected, ids = inside.flip(1), expected.flip(1), ids.flip(1)
        assert torch.equal(batch.label[0], ids)
        assert torch.allclose(batch.image[0].permute(1, 2, 0)[inside], expected[inside], atol=1e-5)
        assert batch.image[0].permute(1, 2, 0)[~inside].abs().sum() <= 0.02 * 3 * (~inside).sum()
