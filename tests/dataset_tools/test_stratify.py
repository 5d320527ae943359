import numpy as np
import pytest

from dataset_tools.stratify import apportion, assign_groups

RATIOS = [(0.7, 0.15, 0.15), (0.5, 0.5), (0.8, 0.1, 0.1), (1.0,), (0.29, 0.71), (0.6, 0.2, 0.1, 0.1), (1 / 3,) * 3]


@pytest.mark.parametrize("ratios", RATIOS)
def test_nothing_is_lost_to_rounding(ratios: tuple[float, ...]) -> None:
    for count in range(len(ratios), 400):
        parts = apportion(count, ratios)
        assert sum(parts) == count
        assert min(parts) >= 1
        if count * min(ratios) >= 1:
            assert all(abs(part - ratio * count) < 1 for part, ratio in zip(parts, ratios, strict=True))


def test_exact_parts_stay_exact() -> None:
    assert apportion(100, (0.29, 0.71)) == (29, 71)
    assert apportion(20, (0.7, 0.15, 0.15)) == (14, 3, 3)
    assert apportion(3, (0.9, 0.05, 0.05)) == (1, 1, 1)


def test_too_few() -> None:
    with pytest.raises(ValueError, match="2 cannot be divided into 3 parts"):
        apportion(2, (0.5, 0.25, 0.25))


@pytest.mark.parametrize("ratios", RATIOS)
def test_single_images_are_divided_exactly(ratios: tuple[float, ...]) -> None:
    generator = np.random.default_rng(1)
    for count in (len(ratios), 7, 10, 33, 101):
        content = generator.random((count, 4)) * (generator.random((count, 4)) < 0.3)
        for features in (content, content[:, :0]):
            chosen = assign_groups(np.ones(count, np.int64), features, ratios, seed=3)
            assert tuple(np.bincount(chosen, minlength=len(ratios))) == apportion(count, ratios)


def test_seed_decides() -> None:
    sizes, content = np.ones(50, np.int64), np.random.default_rng(0).random((50, 3))
    one = assign_groups(sizes, content, (0.5, 0.5), seed=1)
    assert np.array_equal(one, assign_groups(sizes, content, (0.5, 0.5), seed=1))
    assert not np.array_equal(one, assign_groups(sizes, content, (0.5, 0.5), seed=2))


def test_stratified_is_closer_than_random() -> None:
    """Rare classes, each in a few images only: by chance some split gets far too much or none of them."""
    generator = np.random.default_rng(5)
    content = generator.exponential(size=(200, 6)) * (generator.random((200, 6)) < (0.9, 0.5, 0.3, 0.2, 0.15, 0.1))
    ratios = np.array((0.7, 0.15, 0.15))

    def worst(chosen: np.ndarray) -> float:
        shares = np.stack([content[chosen == split].sum(0) / content.sum(0) for split in range(3)])
        return float(np.abs(shares / ratios[:, None] - 1).max())

    sizes = np.ones(200, np.int64)
    stratified = [worst(assign_groups(sizes, content, tuple(ratios), seed=seed)) for seed in range(3)]
    by_chance = [worst(assign_groups(sizes, content[:, :0], tuple(ratios), seed=seed)) for seed in range(3)]
    assert max(stratified) < 0.1
    assert min(by_chance) > 0.3


def test_groups_of_very_different_sizes() -> None:
    sizes = np.array([60, 20, 10, 4, 3, 2, 1])
    chosen = assign_groups(sizes, np.zeros((7, 0)), (0.6, 0.2, 0.2), seed=0)
    totals = [int(sizes[chosen == split].sum()) for split in range(3)]
    assert totals == [60, 20, 20]


def test_every_split_gets_a_group() -> None:
    chosen = assign_groups(np.array([100, 1, 1]), np.zeros((3, 0)), (0.34, 0.33, 0.33), seed=0)
    assert sorted(chosen.tolist()) == [0, 1, 2]
    with pytest.raises(ValueError, match="2 groups cannot be divided into 3 splits"):
        assign_groups(np.array([5, 5]), np.zeros((2, 0)), (0.4, 0.3, 0.3), seed=0)


def test_a_class_that_nobody_holds() -> None:
    chosen = assign_groups(np.ones(4, np.int64), np.zeros((4, 2)), (0.5, 0.5), seed=0)
    assert np.bincount(chosen).tolist() == [2, 2]
