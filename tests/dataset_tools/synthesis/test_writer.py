import json
from pathlib import Path

import numpy as np
import pytest

from dataset_tools.config import SynthesizeConfig
from dataset_tools.description import load_description
from dataset_tools.doctor.examine import verify_split
from dataset_tools.files import MADE_NAME
from dataset_tools.labels import load_labels
from dataset_tools.masks import read_mask
from dataset_tools.polygons import load_polygons, paint_mask
from dataset_tools.synthesis.writer import SYNTHETIC_LABELS, synthesize
from fasterseg.base.images import read_image

CONFIG = SynthesizeConfig(image_size=(64, 96), train_images=5, val_images=2, test_images=1, cities=("aa", "bb"))


def contents(root: Path) -> dict[str, bytes]:
    """All files but the record for `clean`, which holds the times at which they were written."""
    files = (path for path in root.rglob("*") if path.is_file() and path.name != MADE_NAME)
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def test_folder(tmp_path: Path) -> None:
    assert synthesize(tmp_path, CONFIG, progress=False) == 8
    description = load_description(tmp_path)
    assert [len(description.samples(split)) for split in ("train", "val", "test")] == [5, 2, 1]
    assert description.class_names[3] == "pole and sign"
    assert description.label_ids is not None
    assert description.label_ids[0] == 7
    verify_split(description, "train+val+test", sample_limit=None)
    first = description.samples("train")[0]
    assert first.image.relative_to(tmp_path).as_posix() == "leftImg8bit/train/aa/aa_000000_000000_leftImg8bit.png"
    assert first.mask is not None
    assert first.mask.relative_to(tmp_path).as_posix() == "gtFine/train/aa/aa_000000_000000_gtFine_labelTrainIds.png"
    assert read_image(first.image).shape == (64, 96, 3)
    assert load_labels(tmp_path / "labels.yaml") == SYNTHETIC_LABELS


def test_masks_are_the_painted_polygons(tmp_path: Path) -> None:
    synthesize(tmp_path, CONFIG, progress=False)
    polygon_files = sorted(tmp_path.rglob("*_polygons.json"))
    assert len(polygon_files) == 8
    for path in polygon_files:
        assert set(json.loads(path.read_text())) == {"imgHeight", "imgWidth", "objects"}
        mask = read_mask(path.with_name(path.name.replace("polygons.json", "labelTrainIds.png")))
        assert np.array_equal(mask, paint_mask(load_polygons(path), SYNTHETIC_LABELS))


def test_same_settings_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        synthesize(tmp_path / name, CONFIG, progress=False)
    synthesize(tmp_path / "c", CONFIG.model_copy(update={"seed": 1}), progress=False)
    first, second, third = (contents(tmp_path / name) for name in ("a", "b", "c"))
    assert first == second
    differing = [name for name in first if name.endswith("_leftImg8bit.png") and first[name] != third[name]]
    assert len(differing) == 8


def test_goes_on_after_a_cut(tmp_path: Path) -> None:
    synthesize(tmp_path, CONFIG, progress=False)
    before = contents(tmp_path)
    images = sorted((tmp_path / "leftImg8bit").rglob("*.png"))
    kept = images[0].stat().st_mtime_ns
    images[3].unlink()
    next((tmp_path / "gtFine" / "val").rglob("*_labelTrainIds.png")).unlink()
    (tmp_path / "dataset.yaml").unlink()
    assert synthesize(tmp_path, CONFIG, progress=False) == 2
    assert contents(tmp_path) == before
    assert images[0].stat().st_mtime_ns == kept
    assert synthesize(tmp_path, CONFIG, progress=False) == 0


def test_other_settings_are_named(tmp_path: Path) -> None:
    synthesize(tmp_path, CONFIG, progress=False)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="seed is 0 there, 9 here"):
        synthesize(tmp_path, CONFIG.model_copy(update={"seed": 9}), progress=False)
    assert contents(tmp_path) == before


def test_workers_must_be_positive(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="workers is 0"):
        synthesize(tmp_path, CONFIG, workers=0)


@pytest.mark.slow
def test_workers_do_not_change_the_bytes(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"train_images": 40})
    synthesize(tmp_path / "one", config, progress=False)
    synthesize(tmp_path / "two", config, workers=2, progress=False)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
