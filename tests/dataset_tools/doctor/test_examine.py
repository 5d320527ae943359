"""Every defect that the doctor knows is planted in a dataset without a fault, and is the only one found."""

import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from dataset_tools.config import Crop
from dataset_tools.description import DatasetDescription, load_description
from dataset_tools.doctor import examine as examine_module
from dataset_tools.doctor.examine import CheckOptions, examine, load_or_report, select_splits, verify_split
from dataset_tools.doctor.findings import FINDING_KINDS, MAX_EXAMPLES
from dataset_tools.doctor.report import Report
from dataset_tools.masks import read_mask, write_mask
from fasterseg.base.images import read_image

Clean = Callable[..., DatasetDescription]
Plant = Callable[[Path], None]
COLORS = ((128, 64, 128), (0, 0, 142), (70, 130, 180))
IMAGE, MASK = Path("train/train 1.png"), Path("trainannot/train 1.png.png")


class Defect(NamedTuple):
    code: str
    plant: Plant
    options: CheckOptions = CheckOptions()
    count: int = 1


def check(root: Path, options: CheckOptions | None = None) -> Report:
    found = load_or_report(root)
    return found if isinstance(found, Report) else examine(found, select_splits(found, None), options)


def codes(report: Report) -> dict[str, int]:
    return {finding.kind.code: finding.count for finding in report.findings}


def edit_yaml(**changes: object) -> Plant:
    def plant(root: Path) -> None:
        path = root / "dataset.yaml"
        path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}))

    return plant


def edit_list(name: str, old: str, new: str) -> Plant:
    def plant(root: Path) -> None:
        text = (root / name).read_text()
        assert old in text
        (root / name).write_text(text.replace(old, new))

    return plant


def add_line(name: str, line: str) -> Plant:
    def plant(root: Path) -> None:
        with (root / name).open("a") as lines:
            lines.write(f"{line}\n")

    return plant


def cut_off(path: Path, part: float) -> Plant:
    def plant(root: Path) -> None:
        data = (root / path).read_bytes()
        (root / path).write_bytes(data[: int(len(data) * part)])

    return plant


def cut_off_jpeg(root: Path) -> None:
    Image.fromarray(read_image(root / IMAGE)).save(root / IMAGE, format="JPEG", quality=95)
    cut_off(IMAGE, 0.7)(root)


def save_image(mode: str) -> Plant:
    return lambda root: Image.open(root / IMAGE).convert(mode).save(root / IMAGE, format="PNG")


def save_mask(mode: str, image_format: str = "PNG") -> Plant:
    return lambda root: Image.open(root / MASK).convert(mode).save(root / MASK, format=image_format)


def deep_image(root: Path) -> None:
    gray = cv2.cvtColor(read_image(root / IMAGE), cv2.COLOR_RGB2GRAY).astype(np.uint16) * 257
    Image.fromarray(gray).save(root / IMAGE, format="PNG")


def color_mask(root: Path) -> None:
    label = np.minimum(read_mask(root / MASK), 2)
    Image.fromarray(np.asarray(COLORS, np.uint8)[label]).save(root / MASK)


def gray_of_colors(root: Path) -> None:
    color_mask(root)
    Image.open(root / MASK).convert("L").save(root / MASK)


def photograph_as_mask(root: Path) -> None:
    Image.open(root / IMAGE).convert("L").save(root / MASK)


def change_mask(function: Callable[[np.ndarray], np.ndarray], *splits: str) -> Plant:
    """Rewrites the one mask, or all masks of the splits."""

    def plant(root: Path) -> None:
        paths = [root / MASK] if not splits else [path for name in splits for path in (root / f"{name}annot").iterdir()]
        for path in paths:
            write_mask(path, function(read_mask(path).copy()))

    return plant


def replaced(old: int, new: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda label: np.where(label == old, new, label).astype(np.uint8)


def corner(label: np.ndarray) -> np.ndarray:
    label[-4:, -4:] = 3
    return label


def binary(label: np.ndarray) -> np.ndarray:
    return np.where(label == 0, 0, 255).astype(np.uint8)


def rotated(root: Path) -> None:
    image = Image.open(root / IMAGE)
    exif = image.getexif()
    exif[0x0112] = 6
    image.convert("RGB").save(root / IMAGE, format="JPEG", quality=95, exif=exif)


def palette_mask(*order: int) -> Plant:
    def plant(root: Path) -> None:
        mask = Image.fromarray(read_mask(root / MASK)).convert("P")
        mask.putdata(read_mask(root / MASK).ravel().tolist())
        mask.putpalette([value for index in order for value in COLORS[index]] + [0] * 3 * (256 - len(order)))
        mask.save(root / MASK)
        assert set(np.unique(read_mask(root / MASK)).tolist()) == {0, 1, 2, 255}

    return plant


def other_mask(root: Path) -> None:
    write_mask(root / "trainannot" / "other.png", read_mask(root / MASK)[::-1])
    add_line("train.txt", "train/train 1.png,trainannot/other.png")(root)


def copy_image(source: str, target: str) -> Plant:
    def plant(root: Path) -> None:
        # Encoded anew: other bytes, the same pixels.
        Image.open(root / source).save(root / target, compress_level=1)

    return plant


def near_copy(root: Path) -> None:
    pixels = np.clip(read_image(root / IMAGE).astype(np.int16) + 9, 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(root / "val" / "val 1.png", format="JPEG", quality=80)


def unlisted(root: Path) -> None:
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(root / "train" / "forgotten.png")


FIRST_WORD = CheckOptions(group_pattern=re.compile(r"^\w+"))
DEFECTS = (
    Defect("description", edit_yaml(class_names=["road"])),
    Defect("description", lambda root: (root / "dataset.yaml").write_text("name: [")),
    Defect("description", edit_yaml(splits={"train": "train.txt", "val": "absent.txt"})),
    Defect("description", add_line("val.txt", "a,b,c")),
    Defect("foreground-as-ignore", edit_yaml(ignore_index=2)),
    Defect("foreground-as-ignore", change_mask(binary, "train", "val")),
    Defect("missing-file", lambda root: (root / IMAGE).unlink()),
    Defect("missing-file", lambda root: (root / MASK).unlink()),
    Defect("too-large", lambda root: Image.new("1", (13_500, 13_500)).save(root / IMAGE)),
    Defect("too-large", lambda root: Image.new("1", (13_500, 13_500)).save(root / MASK)),
    Defect("unreadable", lambda root: (root / IMAGE).write_bytes(b"not an image")),
    Defect("unreadable", lambda root: (root / IMAGE).write_bytes(b"")),
    Defect("unreadable", cut_off(IMAGE, 0.9)),
    Defect("unreadable", cut_off_jpeg),
    Defect("unreadable", cut_off(MASK, 0.6)),
    Defect("size-mismatch", change_mask(lambda label: label[:40])),
    Defect("size-mismatch", change_mask(lambda label: label.T)),
    Defect("color-mask", color_mask),
    Defect("color-mask", save_mask("RGB")),
    Defect("gray-mask", gray_of_colors),
    Defect("gray-mask", photograph_as_mask),
    Defect("mask-mode", save_mask("LA")),
    Defect("lossy-mask", save_mask("L", "JPEG")),
    Defect("mask-values", change_mask(replaced(2, 77))),
    Defect("mask-values", change_mask(corner, "train"), count=4),
    Defect("exif-rotation", rotated),
    Defect("channels", save_image("L")),
    Defect("channels", deep_image),
    Defect("listed-twice", add_line("train.txt", "train/train 1.png,trainannot/train 1.png.png")),
    Defect("two-masks", other_mask),
    Defect("shared-mask", edit_list("train.txt", "trainannot/train 1.png.png", "trainannot/train 0.png.png")),
    Defect("no-mask", edit_list("train.txt", "trainannot/train 1.png.png", "")),
    Defect("all-ignored", change_mask(lambda label: np.full_like(label, 255))),
    Defect("unused-class", change_mask(replaced(2, 1), "train", "val")),
    Defect("class-not-in-split", change_mask(replaced(1, 0), "val")),
    Defect("palette-order", palette_mask(0, 2, 1)),
    Defect("small-image", lambda root: None, CheckOptions((Crop("--crop", (64, 64)),)), count=6),
    Defect("same-file-in-splits", add_line("val.txt", "train/train 1.png,trainannot/train 1.png.png")),
    Defect("duplicate", copy_image("train/train 1.png", "train/train 2.png")),
    Defect("duplicate-across-splits", copy_image("train/train 1.png", "val/val 1.png")),
    Defect("near-duplicate-across-splits", near_copy),
    Defect("group-across-splits", lambda root: None, CheckOptions(group_pattern=re.compile(r"(\d)\.png$")), count=2),
    Defect("group-unmatched", lambda root: None, CheckOptions(group_pattern=re.compile(r"^\w+ [0-2]")), count=1),
    Defect("unlisted-file", unlisted),
)


def test_every_kind_is_planted() -> None:
    assert {defect.code for defect in DEFECTS} == FINDING_KINDS.keys()


@pytest.mark.parametrize("defect", DEFECTS, ids=[f"{number}-{defect.code}" for number, defect in enumerate(DEFECTS)])
def test_planted_defect_is_found_and_only_it(clean: Clean, defect: Defect) -> None:
    root = clean().root
    defect.plant(root)
    report = check(root, defect.options)
    assert codes(report) == {defect.code: defect.count}
    assert report.has_errors == (FINDING_KINDS[defect.code].severity == "error")
    assert report.findings[0].examples[0].detail


@pytest.mark.parametrize("options", [CheckOptions(), FIRST_WORD, CheckOptions((Crop("--crop", (32, 64)),))])
def test_nothing_is_found_in_a_clean_set(clean: Clean, options: CheckOptions) -> None:
    report = check(clean().root, options)
    assert codes(report) == {}
    assert not report.has_errors
    assert report.read_pairs == 6
    assert report.splits == {"train": 4, "val": 2}


def test_palette_in_class_order_is_clean(clean: Clean) -> None:
    root = clean().root
    palette_mask(0, 1, 2)(root)
    assert codes(check(root)) == {}


def test_test_split_without_masks_is_clean(clean: Clean) -> None:
    root = clean().root
    edit_yaml(splits={"train": "train.txt", "test": "val.txt"})(root)
    edit_list("val.txt", "valannot/val 0.png.png", "")(root)
    edit_list("val.txt", "valannot/val 1.png.png", "")(root)
    assert codes(check(root)) == {}


def test_empty_split_is_skipped(clean: Clean) -> None:
    root = clean().root
    (root / "empty.txt").write_text("")
    edit_yaml(splits={"train": "train.txt", "val": "val.txt", "test": "empty.txt"})(root)
    assert check(root).splits == {"train": 4, "val": 2}


def test_exact_copies_are_not_near_duplicates_too(clean: Clean) -> None:
    root = clean().root
    copy_image("train/train 1.png", "val/val 0.png")(root)
    copy_image("train/train 1.png", "val/val 1.png")(root)
    assert codes(check(root)) == {"duplicate-across-splits": 2, "duplicate": 1}


def test_even_pictures_are_no_near_duplicates(clean: Clean) -> None:
    root = clean().root
    for split, value in (("train", 100), ("val", 101)):
        Image.fromarray(np.full((48, 80, 3), value, np.uint8)).save(root / split / f"{split} 1.png")
    assert codes(check(root)) == {}


def test_class_shares_and_weights(clean: Clean) -> None:
    shares = check(clean().root).classes
    # 48 rows of 80 pixels in three stripes, 5 pixels of the first ignored
    assert [share.pixels for share in shares] == [
        {"train": 4 * (1280 - 5), "val": 2 * (1280 - 5)},
        {"train": 4 * 1280, "val": 2 * 1280},
        {"train": 4 * 1280, "val": 2 * 1280},
    ]
    assert [share.images for share in shares] == [{"train": 4, "val": 2}] * 3
    assert sum(share.share for share in shares) == pytest.approx(1)
    assert shares[1].weight == pytest.approx(1 / np.log(1.02 + 1280 / (3 * 1280 - 5)))


def test_only_the_first_examples_are_kept(clean: Clean) -> None:
    description = clean([f"{number}.png" for number in range(MAX_EXAMPLES + 3)])
    for sample in description.samples("train"):
        sample.image.unlink()
    (finding,) = check(description.root).findings
    assert finding.count == MAX_EXAMPLES + 3
    assert len(finding.examples) == MAX_EXAMPLES


def test_processes_do_not_change_the_report(clean: Clean, monkeypatch: pytest.MonkeyPatch) -> None:
    description = clean([f"{number}.png" for number in range(9)])
    cut_off(Path("train/7.png"), 0.5)(description.root)
    monkeypatch.setattr(examine_module, "_PAIRS_PER_JOB", 4)
    monkeypatch.setattr(examine_module, "_MIN_PAIRS_FOR_POOL", 0)
    alone, shared = (check(description.root, CheckOptions(workers=workers)) for workers in (1, 2))
    assert alone.to_dict() == shared.to_dict()
    assert codes(shared) == {"unreadable": 1}


def test_strange_names(clean: Clean) -> None:
    names = ["with space.png", "it's.png", 'a "quoted".png', "Straße 東京.png", "line\nbreak.png", "<b>bold</b>&.png"]
    names[-1] = names[-1].replace("/", "∕")
    description = clean(names)
    assert {sample.image.name for sample in load_description(description.root).samples("train")} == set(names)
    assert codes(check(description.root)) == {}


def test_splits_are_chosen(clean: Clean) -> None:
    description = clean()
    assert list(select_splits(description, None)) == ["train", "val"]
    assert list(select_splits(description, "val+val")) == ["val"]
    with pytest.raises(ValueError, match="no split 'tset'"):
        select_splits(description, "tset")


def test_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no dataset at"):
        load_or_report(tmp_path)


def test_ignored_masks_of_test_images_count_nothing(clean: Clean) -> None:
    description = clean()
    bare = replace(description, splits={"test": tuple(s._replace(mask=None) for s in description.samples("val"))})
    report = examine(bare, bare.splits)
    assert {finding.kind.code for finding in report.findings} <= {"unlisted-file"}
    assert all(share.share == 0 for share in report.classes)


def test_memory_holds_no_pixels(clean: Clean) -> None:
    root = clean().root
    buffer = io.BytesIO()
    np.save(buffer, read_image(root / IMAGE))
    report = check(root)
    assert len(report.to_json()) < len(buffer.getvalue())


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
