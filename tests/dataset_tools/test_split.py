from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset_tools.description import DatasetDescription, load_description, save_description
from dataset_tools.masks import write_mask
from dataset_tools.samples import Sample
from dataset_tools.split import (
    PREVIOUS_NAME,
    SplitPlan,
    apportion,
    assign_groups,
    compile_group_pattern,
    group_of,
    parse_ratios,
    plan_split,
    write_splits,
)


@pytest.mark.parametrize(
    ("pattern", "name", "group"),
    [
        (r"^[^_]+", "0016E5_07959.jpg", "0016E5"),
        (r"^([a-z]+)_(\d+)", "aachen_000003_000019.png", "aachen/000003"),
        (r"^a(b)?(c)", "ac.png", "/c"),
        (r"drive(\d)", "drive.png", None),
    ],
)
def test_group(pattern: str, name: str, group: str | None) -> None:
    assert group_of(Path("aachen_9") / name, compile_group_pattern(pattern)) == group


def test_malformed_pattern() -> None:
    with pytest.raises(ValueError, match="not a regular expression"):
        compile_group_pattern("[")


PARTS = [(0.7, 0.15, 0.15), (0.5, 0.5), (0.8, 0.1, 0.1), (1.0,), (0.29, 0.71), (0.6, 0.2, 0.1, 0.1), (1 / 3,) * 3]


@pytest.mark.parametrize("ratios", PARTS)
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


@pytest.mark.parametrize("ratios", PARTS)
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


MakeDataset = Callable[..., DatasetDescription]


@given(
    sizes=st.lists(st.integers(1, 30), min_size=4, max_size=25),
    weights=st.lists(st.integers(1, 20), min_size=1, max_size=4),
    class_count=st.integers(0, 3),
    seed=st.integers(0, 1000),
)
def test_every_group_goes_to_one_split_and_no_split_is_empty(
    sizes: list[int], weights: list[int], class_count: int, seed: int
) -> None:
    ratios = [weight / sum(weights) for weight in weights]
    content = np.random.default_rng(seed).integers(0, 9, (len(sizes), class_count)).astype(np.float64)
    chosen = assign_groups(np.array(sizes), content, ratios, seed=seed)
    assert chosen.shape == (len(sizes),)
    assert np.bincount(chosen, minlength=len(ratios)).min() >= 1
    assert chosen.max() < len(ratios)
    assert np.array_equal(chosen, assign_groups(np.array(sizes), content, ratios, seed=seed))


@given(
    names=st.sets(
        # a backslash stands for "/" in the list of files that do not exist; see ODD_NAMES for one that does
        st.text(st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="/\\"), min_size=1, max_size=12),
        min_size=1,
        max_size=6,
    )
)
def test_split_lists_hold_any_name(names: set[str]) -> None:
    """What is written to the lists of a division is what is read from them."""
    with TemporaryDirectory() as folder:
        root = Path(folder) / "set"
        samples = [Sample(root / "images" / f"{name}.png", root / "masks" / f"{name}.png") for name in sorted(names)]
        splits = {"a": tuple(samples[::2]), "b": tuple(samples[1::2])}
        write_splits(DatasetDescription(root, "odd", ("x",), ((0, 0, 0),), splits), splits, tool="split", label="seed0")
        read = load_description(root).splits
        assert {name: [sample[:2] for sample in found] for name, found in read.items()} == {
            name: [sample[:2] for sample in found] for name, found in splits.items()
        }


RATIOS = {"train": 0.6, "val": 0.2, "test": 0.2}
ODD_NAMES = ("a b", "it's", 'say "x"', "größe 街", "two\nlines", "tab\tbed", "$'x", "back\\slash", "-dash")


def plan(description: DatasetDescription, **changes: object) -> SplitPlan:
    return plan_split(description, changes.pop("ratios", RATIOS), progress=False, **changes)  # type: ignore[arg-type]


def files_of(description: DatasetDescription) -> set[tuple[Path, Path | None]]:
    return {sample[:2] for samples in description.splits.values() for sample in samples}


def named_dataset(root: Path, names: tuple[str, ...]) -> DatasetDescription:
    samples = []
    for name in names:
        image, mask = root / "images" / f"{name}.png", root / "masks" / f"{name}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        image.write_bytes(cv2.imencode(".png", np.zeros((4, 6, 3), np.uint8))[1].tobytes())
        write_mask(mask, np.zeros((4, 6), np.uint8))
        samples.append(Sample(image, mask))
    save_description(DatasetDescription(root, "odd", ("a", "b"), ((0, 0, 0), (9, 9, 9)), {"all": tuple(samples)}))
    return load_description(root)


@pytest.mark.parametrize(
    "text", ["train", "train=0.5", "train=0.5,train=0.5", "train=0,val=1", "a/b=1", "=1", "train=1.5", "train=x,val=1"]
)
def test_ratios_are_checked(text: str) -> None:
    with pytest.raises(ValueError, match="--ratios"):
        parse_ratios(text)


def test_ratios() -> None:
    assert parse_ratios("train=0.7, val=0.15,test=.15") == {"train": 0.7, "val": 0.15, "test": 0.15}
    assert sum(parse_ratios("a=0.333333,b=0.333333,c=0.333334").values()) == pytest.approx(1)


def test_everything_is_divided_and_stays_in_place(make_dataset: MakeDataset) -> None:
    description = make_dataset(train=9, val=2)
    before = {path: path.read_bytes() for path in description.root.rglob("*") if path.is_file()}
    made = plan(description, seed=1)
    assert [len(samples) for samples in made.splits.values()] == [7, 2, 2]
    folder = write_splits(description, made.splits, tool="split", label="seed1")
    divided = load_description(description.root)
    assert list(divided.splits) == ["train", "val", "test"]
    assert files_of(divided) == files_of(description)
    assert replace(divided, splits={}) == replace(description, splits={})
    after = {path: path.read_bytes() for path in before}
    assert [path.name for path in before if after[path] != before[path]] == ["dataset.yaml"]
    assert (folder / PREVIOUS_NAME).read_bytes() == before[description.root / "dataset.yaml"]
    (description.root / "dataset.yaml").write_bytes((folder / PREVIOUS_NAME).read_bytes())
    assert load_description(description.root) == description


def test_same_seed_whatever_the_division_before(make_dataset: MakeDataset) -> None:
    description = make_dataset(train=9, val=4)
    first = plan(description, seed=3)
    write_splits(description, plan(description, seed=8).splits, tool="split", label="seed8")
    again = plan(load_description(description.root), seed=3)
    strip = [[sample[:2] for sample in samples] for samples in first.splits.values()]
    assert [[sample[:2] for sample in samples] for samples in again.splits.values()] == strip
    assert plan(description, seed=4).splits != first.splits


def test_repeat_keeps_the_former_description(make_dataset: MakeDataset) -> None:
    description = make_dataset(train=9)
    original = (description.root / "dataset.yaml").read_bytes()
    folders = []
    for _ in range(2):
        current = load_description(description.root)
        folders.append(write_splits(current, plan(current).splits, tool="split", label="seed0"))
    assert folders[0] == folders[1]
    assert (folders[0] / PREVIOUS_NAME).read_bytes() == original


def test_a_cut_leaves_the_old_division(make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    description = make_dataset(train=9)
    real = Path.replace

    def fail(self: Path, target: Path) -> Path:
        if Path(target).name == "dataset.yaml":
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        write_splits(description, plan(description).splits, tool="split", label="seed0")
    assert load_description(description.root) == description


def test_groups_never_straddle(tmp_path: Path) -> None:
    names = tuple(
        f"drive{drive}_{frame:03d}" for drive, frames in enumerate((9, 7, 4, 3, 2, 1)) for frame in range(frames)
    )
    description = named_dataset(tmp_path, names)
    made = plan(description, group_by=r"^[^_]+", ratios={"train": 0.5, "val": 0.5})
    drives = [{sample.image.name.split("_")[0] for sample in samples} for samples in made.splits.values()]
    assert not drives[0] & drives[1]
    assert len(drives[0] | drives[1]) == 6
    assert made.groups == tuple(len(each) for each in drives)
    assert sorted(len(samples) for samples in made.splits.values()) == [13, 13]


def test_names_without_a_group_are_an_error(tmp_path: Path) -> None:
    description = named_dataset(tmp_path, ("a_1", "b_1", "plain"))
    with pytest.raises(ValueError, match=r"does not match 1 file names:\n  plain\.png"):
        plan(description, group_by=r"^\w_")
    with pytest.raises(ValueError, match="not a regular expression"):
        plan(description, group_by="(")


def test_kept_splits(make_dataset: MakeDataset) -> None:
    description = make_dataset(train=6, val=3)
    made = plan(description, source_splits="train", ratios={"a": 0.5, "b": 0.5})
    assert list(made.kept) == ["val"]
    assert sum(map(len, made.splits.values())) == 6
    with pytest.raises(ValueError, match="the splits val exist and stay"):
        plan(description, source_splits="train", ratios={"train": 0.5, "val": 0.5})
    with pytest.raises(ValueError, match="street 0.* are also in the split val"):
        plan(description, source_splits="train", ratios={"a": 0.5, "b": 0.5}, group_by=r"\w+ \d")


def test_images_without_masks_or_with_two(make_dataset: MakeDataset) -> None:
    description = make_dataset(train=3)
    first, *rest = description.samples("train")
    unlabelled = replace(description, splits={"train": (first._replace(mask=None), *rest)})
    with pytest.raises(ValueError, match=r"no mask for .*street 0\.png \(train\.txt:2\)(.|\n)*--from train\+val"):
        plan(unlabelled)
    twice = replace(description, splits={"train": (first, *rest), "val": (first._replace(mask=rest[0].mask),)})
    with pytest.raises(ValueError, match="stands with two masks"):
        plan(twice)
    same = replace(description, splits={"train": (first, *rest), "val": (first,)})
    assert sum(map(len, plan(same).splits.values())) == 3


def test_stratified_by_what_masks_hold(tmp_path: Path) -> None:
    description = named_dataset(tmp_path, tuple(f"n{number:02d}" for number in range(20)))
    for sample in description.samples("all")[:4]:
        assert sample.mask is not None
        write_mask(sample.mask, np.ones((4, 6), np.uint8))
    made = plan(description, stratify=True, ratios={"train": 0.5, "val": 0.25, "test": 0.25})
    assert made.class_pixels.tolist() == [[8 * 24, 2 * 24], [4 * 24, 24], [4 * 24, 24]]


def test_wrong_mask_values_are_named(tmp_path: Path) -> None:
    description = named_dataset(tmp_path, ("a", "b", "c"))
    mask = description.samples("all")[1].mask
    assert mask is not None
    write_mask(mask, np.full((4, 6), 9, np.uint8))
    with pytest.raises(ValueError, match=r"b\.png \(all\.txt:3\) holds values outside the classes: 9"):
        plan(description)


def test_odd_names(tmp_path: Path) -> None:
    description = named_dataset(tmp_path / "my 'data'", ODD_NAMES)
    write_splits(description, plan(description).splits, tool="split", label="seed0")
    divided = load_description(description.root)
    assert files_of(divided) == files_of(description)
    assert {sample.image.stem for samples in divided.splits.values() for sample in samples} == set(ODD_NAMES)
    assert all(path.is_file() for pair in files_of(divided) for path in pair if path is not None)
