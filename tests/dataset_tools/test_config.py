from pathlib import Path

import pytest
from pydantic import ValidationError

from dataset_tools.config import (
    SPLITS,
    Crop,
    DatasetConfig,
    SynthesizeConfig,
    check_crop_size,
    chosen_crops,
    read_crops,
)


def test_reads_plain_values() -> None:
    config = DatasetConfig.model_validate({"root": "data/x", "synthesize": {"image_size": [128, 256], "seed": 3}})
    assert config.train_split == "train"
    assert config.synthesize is not None
    assert config.synthesize.image_size == (128, 256)
    assert DatasetConfig.model_validate(config.model_dump()) == config


@pytest.mark.parametrize("wrong", [{"rooot": "x"}, {"root": "x", "num_workers": -1}, {"root": "x", "crop": 3}])
def test_refuses(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        DatasetConfig.model_validate(wrong)


def test_frozen() -> None:
    with pytest.raises(ValidationError):
        DatasetConfig(root="x").root = "y"  # type: ignore[arg-type, assignment]


def test_synthesis_counts() -> None:
    config = SynthesizeConfig(train_images=5, val_images=2, test_images=1)
    assert [config.count(split) for split in SPLITS] == [5, 2, 1]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"image_size": (32, 64)}, "image_size 32x64"),
        ({"image_size": (128, 64)}, "image_size 128x64"),
        ({"cities": ("new york",)}, "letters and digits"),
        ({"cities": ("a", "a")}, "different names"),
        ({"cities": ()}, "cities"),
        ({"train_images": 0}, "train_images"),
        ({"sead": 1}, "sead"),
    ],
)
def test_synthesis_refuses(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SynthesizeConfig.model_validate(wrong)


def test_crops_of_the_stages(tmp_path: Path) -> None:
    path = tmp_path / "experiment.yaml"
    path.write_text(
        "name: x\ndataset: {root: data}\nteacher: &t {crop_size_px: [64, 96], image_scale: 0.5, scales: [1.0, 1.5]}\n"
        "student: {<<: *t, crop_size_px: [32, 32]}\n"
    )
    assert read_crops(path) == (
        Crop(f"{path}: teacher", (64, 96), 0.5, (1.0, 1.5)),
        Crop(f"{path}: student", (32, 32), 0.5, (1.0, 1.5)),
    )
    assert chosen_crops((8, 9), path)[0] == Crop("--crop", (8, 9))
    assert len(chosen_crops((8, 9), path)) == 3
    assert chosen_crops(None, None) == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("teacher: [", "not valid YAML"),
        ("teacher: {epochs: 3}", "sets no crop_size_px"),
        ("- 3", "sets no crop_size_px"),
        ("teacher: {crop_size_px: 64}", r"teacher\.crop_size_px is 64"),
        ("teacher: {crop_size_px: [64, -1]}", r"teacher\.crop_size_px"),
        ("teacher: {crop_size_px: [64, 64], image_scale: 0}", r"teacher\.image_scale is 0"),
        ("teacher: {crop_size_px: [64, 64], scales: big}", r"teacher\.scales is 'big'"),
    ],
)
def test_malformed_crops(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "experiment.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_crops(path)


def test_missing_experiment_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="experiment file not found"):
        read_crops(tmp_path / "absent.yaml")


def test_crop_size_names_its_field_and_both_sides() -> None:
    with pytest.raises(ValueError, match=r"search\.crop_size_px height 31(.|\n)*search\.crop_size_px width 70"):
        check_crop_size((31, 70), field="search.crop_size_px")
    check_crop_size((224, 448))
