from pathlib import Path

import pytest

from dataset_tools.labels import CITYSCAPES_LABELS
from fasterseg.runtime.importers.facts import imported_facts


def test_nineteen_classes_are_cityscapes_as_the_dataset_tools_have_them() -> None:
    facts = imported_facts(19)
    counted = (label for label in CITYSCAPES_LABELS if 0 <= label.train_id < 19)
    definitions = sorted(counted, key=lambda label: label.train_id)
    assert [(label.name, label.id, label.color) for label in definitions] == list(
        zip(facts.class_names, facts.label_ids or (), facts.colors, strict=True)
    )


def test_other_counts_are_numbered_in_colours_of_their_own() -> None:
    facts = imported_facts(40)
    assert facts.class_names[39] == "class 39"
    assert len(set(facts.colors)) == 40
    assert facts.label_ids is None


def test_a_dataset_file_names_the_classes(tmp_path: Path) -> None:
    path = tmp_path / "dataset.yaml"
    path.write_text(
        "name: mine\nclasses:\n- {name: leaf, color: [0, 255, 0]}\n- {name: soil, color: [90, 60, 30]}\n"
        "ignore_index: 254\nnormalization: {mean: [0, 0, 0], std: [1, 1, 1]}\nsplits: {}\n"
    )
    facts = imported_facts(2, path)
    assert (facts.class_names, facts.colors) == (("leaf", "soil"), ((0, 255, 0), (90, 60, 30)))
    assert (facts.ignore_index, facts.mean, facts.std, facts.label_ids) == (254, (0, 0, 0), (1, 1, 1), None)
    assert imported_facts(None, path) == facts
    with pytest.raises(ValueError, match="describes 2 classes, the network has 3"):
        imported_facts(3, path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("classes: [", "is not valid YAML"),
        ("classes: []", r"classes: got \[\]: List should have at least 1 item"),
        ("classes: [{name: a, color: [0, 0, 999]}]", "classes.0.color.2"),
        ("- 1", "is not a dataset description"),
    ],
)
def test_damaged_dataset_files(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "dataset.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        imported_facts(1, tmp_path / "dataset.yaml")


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no dataset description at"):
        imported_facts(2, tmp_path / "dataset.yaml")
    with pytest.raises(ValueError, match="num_classes is None, expected at least 1"):
        imported_facts(None)
