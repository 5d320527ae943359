from collections import Counter

import pytest

from dataset_tools.sampler import EndlessSampler, select_subset


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
