from pathlib import Path

import pytest

from dataset_tools.labels import CITYSCAPES_LABELS, LabelDefinition, find_label, load_labels, save_labels


def test_cityscapes() -> None:
    by_name = {label.name: label for label in CITYSCAPES_LABELS}
    trained = sorted(label.train_id for label in CITYSCAPES_LABELS if label.train_id != 255)
    assert trained == list(range(19))
    assert sorted(label.id for label in CITYSCAPES_LABELS) == list(range(-1, 34))
    assert (by_name["road"].id, by_name["road"].train_id) == (7, 0)
    assert (by_name["bicycle"].id, by_name["bicycle"].train_id) == (33, 18)
    assert by_name["license plate"].id == -1


def test_round_trip(tmp_path: Path) -> None:
    save_labels(tmp_path / "labels.yaml", CITYSCAPES_LABELS)
    assert load_labels(tmp_path / "labels.yaml") == CITYSCAPES_LABELS


def test_groups_fall_back() -> None:
    car = find_label("cargroup", CITYSCAPES_LABELS)
    assert car is not None
    assert car.name == "car"
    own = find_label("polegroup", CITYSCAPES_LABELS)
    assert own is not None
    assert own.id == 18
    assert find_label("unicorn", CITYSCAPES_LABELS) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("labels: []", "labels"),
        ("labels: [{name: a, id: 0}]", r"labels\.0\.train_id"),
        ("labels: [{name: a, id: 0, train_id: 0}, {name: a, id: 1, train_id: 1}]", "a are defined more than once"),
        ("labels: [", "not valid YAML"),
        ("lables: []", "lables"),
    ],
)
def test_malformed(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "labels.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_labels(tmp_path / "labels.yaml")


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.yaml"):
        load_labels(tmp_path / "none.yaml")


def test_definition_is_frozen() -> None:
    label = LabelDefinition(name="a", id=0, train_id=0)
    with pytest.raises(ValueError, match="frozen"):
        label.id = 3
