from pathlib import Path

import pytest

from dataset_tools.crops import Crop, check_crop_size, chosen_crops, read_crops


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
def test_malformed(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "experiment.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_crops(path)


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="experiment file not found"):
        read_crops(tmp_path / "absent.yaml")


def test_crop_size_names_its_field_and_both_sides() -> None:
    with pytest.raises(ValueError, match=r"search\.crop_size_px height 31(.|\n)*search\.crop_size_px width 70"):
        check_crop_size((31, 70), field="search.crop_size_px")
    check_crop_size((224, 448))
