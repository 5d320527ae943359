from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from dataset_tools.dataset import Sample
from dataset_tools.description import DatasetDescription, load_description, save_description
from dataset_tools.masks import write_mask
from dataset_tools.split import PREVIOUS_NAME, SplitPlan, parse_ratios, plan_split, write_splits

MakeDataset = Callable[..., DatasetDescription]
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
    with pytest.raises(ValueError, match=r"b\.png \(all\.txt:2\) holds values outside the classes: 9"):
        plan(description)


def test_odd_names(tmp_path: Path) -> None:
    description = named_dataset(tmp_path / "my 'data'", ODD_NAMES)
    write_splits(description, plan(description).splits, tool="split", label="seed0")
    divided = load_description(description.root)
    assert files_of(divided) == files_of(description)
    assert {sample.image.stem for samples in divided.splits.values() for sample in samples} == set(ODD_NAMES)
    assert all(path.is_file() for pair in files_of(divided) for path in pair if path is not None)
