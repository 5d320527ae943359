import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dataset_tools.convert.output import OutputOptions, check_output, write_dataset
from dataset_tools.convert.source import IndexMask, SourceDataset, SourceImage
from dataset_tools.description import load_description
from dataset_tools.files import mark_of, read_made, record_made
from dataset_tools.labels import ClassTable
from dataset_tools.masks import read_mask, write_mask

QUIET = OutputOptions(progress=False)
ODD_NAMES = ("two words", "it's", 'say "hi"', "straße 東京", "line\nbreak", "back\\slash", "$'x'", "a\u2028b", "#1")


@pytest.fixture
def make_source(tmp_path: Path, picture: Callable[..., Path]) -> Callable[..., SourceDataset]:
    def build(*names: str, split: str = "train", settings: dict[str, object] | None = None) -> SourceDataset:
        root = tmp_path / "source"
        images = []
        for name in names or ("a", "b", "c"):
            mask = root / "masks" / f"{name}.png"
            picture(root / "images" / f"{name}.jpg")
            if not mask.exists():
                write_mask(mask, np.full((4, 6), 7, np.uint8))
            images.append(SourceImage(name, root / "images" / f"{name}.jpg", IndexMask(mask, {7: 1, 9: 0})))
        table = ClassTable(("road", "car"), ((1, 2, 3), (4, 5, 6)), (9, 7))
        return SourceDataset("convert test", root, table, {split: images}, settings or {}, name="tiny")

    return build


@pytest.mark.parametrize("image_mode", ["link", "copy"])
def test_writes_masks_and_links_or_copies_images(
    make_source: Callable[..., SourceDataset], tmp_path: Path, image_mode: Any
) -> None:
    done = write_dataset(make_source(), tmp_path / "out", OutputOptions(image_mode=image_mode, progress=False))
    assert (done.made, done.kept, done.without_mask, done.skipped) == (3, 0, 0, {})
    description = load_description(tmp_path / "out")
    assert (description.class_names, description.label_ids) == (("road", "car"), (9, 7))
    sample = description.samples("train")[0]
    assert sample.image.is_symlink() == (image_mode == "link")
    assert sample.image.read_bytes() == (tmp_path / "source" / "images" / "a.jpg").read_bytes()
    assert sample.mask is not None
    with Image.open(sample.mask) as mask:
        assert mask.mode == "L"
    assert read_mask(sample.mask).tolist() == [[1] * 6] * 4


def test_odd_names_survive(make_source: Callable[..., SourceDataset], tmp_path: Path) -> None:
    write_dataset(make_source(*ODD_NAMES), tmp_path / "my out", QUIET)
    samples = load_description(tmp_path / "my out").samples("train")
    assert [sample.image.stem for sample in samples] == list(ODD_NAMES)
    assert all(sample.image.is_file() and sample.mask is not None and sample.mask.is_file() for sample in samples)


def test_a_cut_off_conversion_goes_on(make_source: Callable[..., SourceDataset], tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_dataset(make_source(), out, QUIET)
    masks = {name: out / "masks" / "train" / f"{name}.png" for name in "abc"}
    written = masks["a"].stat().st_mtime_ns
    masks["b"].unlink()
    masks["c"].write_bytes(masks["c"].read_bytes()[:-20])
    (out / "dataset.yaml").unlink()
    done = write_dataset(make_source(), out, QUIET)
    assert (done.made, done.kept) == (2, 1)
    assert masks["a"].stat().st_mtime_ns == written
    assert read_mask(masks["c"]).tolist() == [[1] * 6] * 4
    assert load_description(out).num_classes == 2


def test_a_mask_whose_source_changed_is_made_again(make_source: Callable[..., SourceDataset], tmp_path: Path) -> None:
    write_dataset(make_source(), tmp_path / "out", QUIET)
    changed = tmp_path / "source" / "masks" / "b.png"
    write_mask(changed, np.full((4, 6), 9, np.uint8))
    later = (tmp_path / "out" / "masks" / "train" / "b.png").stat().st_mtime_ns + 10**9
    os.utime(changed, ns=(later, later))
    done = write_dataset(make_source(), tmp_path / "out", QUIET)
    assert (done.made, done.kept) == (1, 2)
    assert read_mask(tmp_path / "out" / "masks" / "train" / "b.png").tolist() == [[0] * 6] * 4


def test_other_settings_need_another_folder(make_source: Callable[..., SourceDataset], tmp_path: Path) -> None:
    write_dataset(make_source(settings={"order": "area"}), tmp_path / "out", QUIET)
    with pytest.raises(ValueError, match="order is area there, file here"):
        write_dataset(make_source(settings={"order": "file"}), tmp_path / "out", QUIET)


def test_nothing_of_others_is_touched(make_source: Callable[..., SourceDataset], tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="was not made by"):
        write_dataset(make_source(), out, QUIET)
    assert [path.name for path in out.iterdir()] == ["notes.txt"]


def test_a_dry_run_checks_all_and_writes_nothing(make_source: Callable[..., SourceDataset], tmp_path: Path) -> None:
    dry = OutputOptions(dry_run=True, progress=False)
    assert write_dataset(make_source(), tmp_path / "out", dry).made == 3
    assert not (tmp_path / "out").exists()
    write_mask(tmp_path / "source" / "masks" / "b.png", np.full((4, 6), 8, np.uint8))
    with pytest.raises(ValueError, match=r"1 of 3 images(.|\n)*b\.png holds unknown values: 8 \(24 pixels\)"):
        write_dataset(make_source(), tmp_path / "out", dry)


def test_all_wrong_images_are_named_and_the_others_converted(
    make_source: Callable[..., SourceDataset], tmp_path: Path
) -> None:
    source = make_source()
    write_mask(tmp_path / "source" / "masks" / "a.png", np.full((4, 5), 7, np.uint8))
    (tmp_path / "source" / "masks" / "c.png").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="2 of 3 images") as caught:
        write_dataset(source, tmp_path / "out", QUIET)
    assert "a.png is 4x5, its image is 4x6" in str(caught.value)
    assert "mask cannot be read" in str(caught.value)
    assert (tmp_path / "out" / "masks" / "train" / "b.png").is_file()
    assert not (tmp_path / "out" / "dataset.yaml").exists()


def test_missing_files_are_errors(make_source: Callable[..., SourceDataset], tmp_path: Path) -> None:
    source = make_source()
    (tmp_path / "source" / "images" / "a.jpg").unlink()
    (tmp_path / "source" / "masks" / "b.png").unlink()
    with pytest.raises(ValueError, match=r"image not found: .*a\.jpg(.|\n)*mask not found: .*b\.png"):
        write_dataset(source, tmp_path / "out", QUIET)


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", ""])
def test_names_that_lead_out_are_refused(make_source: Callable[..., SourceDataset], tmp_path: Path, name: str) -> None:
    source = make_source("a")
    item = source.splits["train"][0]._replace(name=name)
    outside = replace(source, splits={"train": [item]})
    with pytest.raises(ValueError, match="leads out of the dataset folder"):
        write_dataset(outside, tmp_path / "out", QUIET)
    assert not (tmp_path / "out").exists()


def test_twins_and_empty_sources_are_refused(make_source: Callable[..., SourceDataset], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 images of the split train are named 'a'"):
        write_dataset(make_source("a", "a"), tmp_path / "out", QUIET)
    source = make_source("a")
    with pytest.raises(ValueError, match="there are no images"):
        write_dataset(replace(source, splits={"train": []}), tmp_path / "out", QUIET)


def test_the_number_of_workers_does_not_matter(make_source: Callable[..., SourceDataset], tmp_path: Path) -> None:
    names = [f"n{number}" for number in range(40)]
    for workers in (1, 5):
        write_dataset(make_source(*names), tmp_path / f"out{workers}", OutputOptions(workers=workers, progress=False))
    assert (tmp_path / "out1" / "train.txt").read_text() == (tmp_path / "out5" / "train.txt").read_text()
    assert len((tmp_path / "out1" / "train.txt").read_text().splitlines()) == 41


def test_output_and_source_are_apart(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for out in (source, source / "inner", tmp_path, tmp_path / "other" / ".." / "source"):
        with pytest.raises(ValueError, match="overlap"):
            check_output(source, out)
    check_output(source, tmp_path / "source2")
    with pytest.raises(FileNotFoundError, match="none"):
        check_output(tmp_path / "none", tmp_path / "out")


@pytest.mark.parametrize("age_s", [-(10**6), 0, 10**6])
def test_times_of_files_do_not_matter(make_source: Callable[..., SourceDataset], tmp_path: Path, age_s: int) -> None:
    write_dataset(make_source(), tmp_path / "out", QUIET)
    source = tmp_path / "source"
    for name in "ab":
        mask = source / "masks" / f"{name}.png"
        if name == "b":
            write_mask(mask, np.full((4, 6), 9, np.uint8))
        moment = (tmp_path / "out" / "masks" / "train" / f"{name}.png").stat().st_mtime_ns + age_s * 10**9
        os.utime(mask, ns=(moment, moment))
    done = write_dataset(make_source(), tmp_path / "out", QUIET)
    assert (done.made, done.kept) == (1, 2)
    assert read_mask(tmp_path / "out" / "masks" / "train" / "b.png").tolist() == [[0] * 6] * 4


def test_an_image_of_another_size_or_orientation_gets_a_new_mask(
    make_source: Callable[..., SourceDataset], tmp_path: Path, picture: Callable[..., Path]
) -> None:
    source = make_source()
    write_dataset(source, tmp_path / "out", QUIET)
    picture(tmp_path / "source" / "images" / "a.jpg", (3, 6))
    write_mask(tmp_path / "source" / "masks" / "a.png", np.full((3, 6), 7, np.uint8))
    image = Image.new("RGB", (4, 6))
    image.getexif()[0x0112] = 6
    image.save(tmp_path / "source" / "images" / "b.jpg", exif=image.getexif())
    done = write_dataset(source, tmp_path / "out", QUIET)
    assert (done.made, done.kept) == (2, 1)
    assert read_mask(tmp_path / "out" / "masks" / "train" / "a.png").shape == (3, 6)
    assert read_mask(tmp_path / "out" / "masks" / "train" / "b.png").shape == (6, 4)


def test_masks_of_an_earlier_release_are_made_again(make_source: Callable[..., SourceDataset], tmp_path: Path) -> None:
    write_dataset(make_source(), tmp_path / "out", QUIET)
    mask = tmp_path / "out" / "masks" / "train" / "a.png"
    write_mask(mask, np.full((4, 6), 0, np.uint8))
    record_made(tmp_path / "out", [mask])
    assert write_dataset(make_source(), tmp_path / "out", QUIET).made == 1
    assert read_mask(mask).tolist() == [[1] * 6] * 4


def test_a_mask_that_was_changed_by_hand_is_kept_and_told(
    make_source: Callable[..., SourceDataset], tmp_path: Path
) -> None:
    write_dataset(make_source(), tmp_path / "out", QUIET)
    mask = tmp_path / "out" / "masks" / "train" / "a.png"
    Image.new("L", (6, 4), 1).save(mask, compress_level=0)
    done = write_dataset(make_source(), tmp_path / "out", QUIET)
    assert (done.made, done.kept) == (0, 3)
    assert done.notes == ("1 masks were changed by somebody else after they were made: they were kept",)


def test_copies_and_links_follow_their_source(make_source: Callable[..., SourceDataset], tmp_path: Path) -> None:
    copy = OutputOptions(image_mode="copy", progress=False)
    source = make_source()
    write_dataset(source, tmp_path / "copies", copy)
    image = tmp_path / "source" / "images" / "a.jpg"
    Image.new("RGB", (6, 4), (1, 2, 3)).save(image)
    os.utime(image, ns=(0, 0))
    write_dataset(source, tmp_path / "copies", copy)
    assert (tmp_path / "copies" / "images" / "train" / "a.jpg").read_bytes() == image.read_bytes()
    write_dataset(source, tmp_path / "links", QUIET)
    link = tmp_path / "links" / "images" / "train" / "a.jpg"
    link.unlink()
    link.symlink_to(tmp_path / "source" / "images" / "b.jpg")
    write_dataset(source, tmp_path / "links", QUIET)
    assert link.resolve() == image


def test_masks_that_were_made_again_are_still_ours_to_clean(
    make_source: Callable[..., SourceDataset], tmp_path: Path
) -> None:
    write_dataset(make_source(), tmp_path / "out", QUIET)
    write_mask(tmp_path / "source" / "masks" / "a.png", np.full((4, 6), 9, np.uint8))
    write_dataset(make_source(), tmp_path / "out", QUIET)
    mask = tmp_path / "out" / "masks" / "train" / "a.png"
    assert read_made(tmp_path / "out")["masks/train/a.png"] == mark_of(mask)


def test_clutter_of_macos_is_counted(make_source: Callable[..., SourceDataset], tmp_path: Path) -> None:
    source = make_source()
    for name in ("images/._a.jpg", "__MACOSX/images/x.jpg", "__MACOSX/._y"):
        (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / name).write_bytes(b"Mac OS X")
    done = write_dataset(source, tmp_path / "out", QUIET)
    assert done.skipped == {"files that macOS left (._* and __MACOSX)": 3}
