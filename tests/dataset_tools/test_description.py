from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from dataset_tools.description import DatasetDescription, load_description, save_description

YAML = """
name: tiny
classes:
  - {name: road, color: [128, 64, 128]}
  - {name: car, color: [0, 0, 142]}
splits: {train: train.txt}
"""


def write(root: Path, text: str = YAML, lines: str = "a.png b.png\n") -> Path:
    (root / "dataset.yaml").write_text(text)
    (root / "train.txt").write_text(lines)
    return root


def test_round_trip(make_dataset: Callable[..., DatasetDescription]) -> None:
    description = make_dataset()
    save_description(description)
    assert load_description(description.root) == description
    assert description.num_classes == 3
    assert description.samples("train")[1].origin == "train.txt:3"
    assert description.samples("train")[1].image.is_file()


def test_defaults(tmp_path: Path) -> None:
    description = load_description(write(tmp_path))
    assert description.ignore_index == 255
    assert description.mean == (0.485, 0.456, 0.406)
    assert description.label_ids is None


def test_list_lines(tmp_path: Path) -> None:
    lines = '"my images/a 1.png" masks/a.png\n\nb.png\n' + "'it is.png' c.png\n"
    samples = load_description(write(tmp_path, lines=lines)).samples("train")
    assert [sample.image.relative_to(tmp_path).as_posix() for sample in samples] == [
        "my images/a 1.png",
        "b.png",
        "it is.png",
    ]
    assert samples[1].mask is None
    assert [sample.origin for sample in samples] == ["train.txt:1", "train.txt:3", "train.txt:4"]


def test_malformed_lines_are_all_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"train\.txt:1: 3 names(.|\n)*train\.txt:3: No closing quotation"):
        load_description(write(tmp_path, lines="a b c\nok.png m.png\nd'or.png m.png\n"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("lines", ["image,mask\nä 1.png,ä 1 mask.png\nb.png\n", "'ä 1.png' 'ä 1 mask.png'\nb.png\n"])
def test_lists_of_both_forms_in_all_readable_encodings(tmp_path: Path, lines: str, encoding: str) -> None:
    root = write(tmp_path, lines="")
    (root / "train.txt").write_bytes(lines.encode(encoding))
    samples = load_description(root).samples("train")
    assert [sample[:2] for sample in samples] == [(root / "ä 1.png", root / "ä 1 mask.png"), (root / "b.png", None)]


def test_a_list_in_another_encoding_is_refused_by_file_and_line(tmp_path: Path) -> None:
    root = write(tmp_path)
    (root / "train.txt").write_bytes("a.png b.png\nGebäude.png b.png\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"train\.txt:2: the byte 0xE4 is not UTF-8; save the file as UTF-8"):
        load_description(root)


def test_lists_are_written_as_csv(make_dataset: Callable[..., DatasetDescription]) -> None:
    description = make_dataset(train=1, val=0)
    assert (description.root / "train.txt").read_text() == "image,mask\ntrain/street 0.png,trainannot/street 0.png\n"


def test_splits(make_dataset: Callable[..., DatasetDescription]) -> None:
    description = make_dataset(train=2, val=0)
    with pytest.raises(ValueError, match="no split 'test'; it has train, val"):
        description.samples("test")
    with pytest.raises(ValueError, match="split 'val' .* is empty"):
        description.samples("train+val")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: tiny", "nmae: tiny", "nmae"),
        ("[0, 0, 142]", "[0, 0]", r"classes\.1\.color"),
        ("[0, 0, 142]", "[0, 0, 256]", r"class car: color \[0, 0, 256\]"),
        ("name: car", "name: road", "the names road stand more than once"),
        ("color: [0, 0, 142]", "color: [0, 0, 142], label_id: 4", "label_id: found 1 for 2 classes"),
        ("splits:", "ignore_index: 1\nsplits:", r"ignore_index: found 1, .*2\.\.255"),
        ("splits: {train: train.txt}", "splits: {}", "splits"),
        ("name: tiny", "name: [", "not valid YAML"),
    ],
)
def test_malformed_file(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_description(write(tmp_path, YAML.replace(old, new)))


def test_missing_files_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="dataset_tools synthesize"):
        load_description(tmp_path)
    write(tmp_path)
    (tmp_path / "train.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"split list not found: .*train\.txt"):
        load_description(tmp_path)


def test_label_ids_are_kept(tmp_path: Path) -> None:
    write(tmp_path, YAML.replace("]}", "], label_id: 3}"))
    description = load_description(tmp_path)
    assert description.label_ids == (3, 3)
    save_description(description)
    assert yaml.safe_load((tmp_path / "dataset.yaml").read_text())["classes"][0]["label_id"] == 3


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_descriptions_and_lists_of_windows(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "ä.png").touch()
    text = "name: x\nclasses: [{name: Übung, color: [1, 2, 3]}]\nsplits: {train: train.txt}\n"
    (tmp_path / "dataset.yaml").write_bytes(text.encode(encoding))
    (tmp_path / "train.txt").write_bytes("image,mask\r\nimages\\ä.png,\r\n".encode(encoding))
    description = load_description(tmp_path)
    assert description.class_names == ("Übung",)
    assert description.samples("train")[0].image == tmp_path / "images" / "ä.png"


def test_another_encoding_is_named_by_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "dataset.yaml").write_bytes("name: x\nclasses: [{name: Übung}]\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"dataset\.yaml:2: the byte 0xDC is not UTF-8"):
        load_description(tmp_path)


@pytest.mark.parametrize("name", ["yes", "010", "null", "12:30"])
def test_class_names_that_yaml_reads_otherwise_are_refused(tmp_path: Path, name: str) -> None:
    text = f"name: x\nclasses: [{{name: {name}, color: [1, 2, 3]}}]\nsplits: {{train: train.txt}}\n"
    (tmp_path / "dataset.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"classes\.0\.name: got "):
        load_description(tmp_path)
