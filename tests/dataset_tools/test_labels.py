from pathlib import Path

import pytest

from dataset_tools.labels import (
    CITYSCAPES_LABELS,
    ClassTable,
    LabelDefinition,
    class_table,
    find_label,
    load_labels,
    save_labels,
    train_id_or_ignore,
)


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


CSV = (
    "name,id,trainId,category,catId,hasInstances,ignoreInEval,color_r,color_g,color_b\n"
    "unlabeled,0,255,void,0,False,True,0,0,0\n"
    '"rack, full",7,1,object,1,True,False,1,2,3\n'
    "floor,8,0,flat,2,False,False,4,5,6\n"
    "mat,9,0,flat,2,False,False,7,8,9\n"
    "glare,-1,-1,void,0,False,True,0,0,0\n"
)


def test_csv(tmp_path: Path) -> None:
    path = tmp_path / "labels.CSV"
    path.write_bytes(CSV.replace("\n", "\r\n").encode("utf-8-sig"))
    labels = load_labels(path)
    rack = LabelDefinition(name="rack, full", id=7, train_id=1, category="object", color=(1, 2, 3))
    assert (labels[1], len(labels)) == (rack, 5)
    # A train id of several labels is called like the first of them.
    assert class_table(labels, path) == ClassTable(("floor", "rack, full"), ((4, 5, 6), (1, 2, 3)), (8, 7))
    assert [train_id_or_ignore(label) for label in labels] == [255, 1, 0, 0, 255]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_csv_of_spreadsheet_programs(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "labels.csv").write_bytes(CSV.replace("floor", "Fußboden").encode(encoding))
    assert [label.name for label in load_labels(tmp_path / "labels.csv")][2] == "Fußboden"
    (tmp_path / "labels.csv").write_bytes(CSV.replace("floor", "Fußboden").encode("latin-1"))
    with pytest.raises(ValueError, match=r"labels\.csv:4: the byte 0xDF is not UTF-8"):
        load_labels(tmp_path / "labels.csv")


def test_csv_round_trip(tmp_path: Path) -> None:
    save_labels(tmp_path / "labels.csv", CITYSCAPES_LABELS)
    assert load_labels(tmp_path / "labels.csv") == CITYSCAPES_LABELS
    assert (tmp_path / "labels.csv").read_text().splitlines()[8] == "road,7,0,flat,1,False,False,128,64,128"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CSV.replace("trainId", "train_id"), "the header line lacks trainId"),
        (CSV.replace(",", ";"), "separated by commas"),
        (CSV.replace("7,1,object", "seven,one,object"), r"labels\.1\.id(.|\n)*labels\.1\.train_id"),
        (CSV.replace("1,2,3", "1,2,300"), r"labels\.1\.color"),
        (CSV.replace("mat,9,0,flat,2,False,False,7,8,9", "mat,9"), r"labels\.3\.train_id"),
        (CSV.replace("mat", "floor"), "floor are defined more than once"),
        ("", "the header line lacks name"),
    ],
)
def test_malformed_csv(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_labels(tmp_path / "labels.csv")


def test_train_ids_have_no_gaps() -> None:
    labels = [
        LabelDefinition(name=name, id=0, train_id=train_id) for name, train_id in (("a", 1), ("b", 3), ("c", 255))
    ]
    with pytest.raises(ValueError, match=r"mine\.csv: no label has the train id 0, 2"):
        class_table(labels, "mine.csv")
