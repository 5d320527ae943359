from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dataset_tools.description import DatasetDescription, load_description
from dataset_tools.labels import LabelDefinition
from dataset_tools.mapping_lists import export_lists, import_lists, read_mapping_list
from dataset_tools.samples import Sample

MakeDataset = Callable[..., DatasetDescription]
LABELS = (
    LabelDefinition(name="void", id=0, train_id=255),
    LabelDefinition(name="road", id=7, train_id=0, color=(1, 2, 3)),
    LabelDefinition(name="lane", id=8, train_id=0),
    LabelDefinition(name="car", id=9, train_id=1, color=(4, 5, 6)),
)


def test_export_as_fasterseg_reads_them(make_dataset: MakeDataset) -> None:
    description = make_dataset(train=2, val=1)
    written = export_lists(description, description.root)
    assert {path.name: count for path, count in written.items()} == {
        "train_mapping_list.txt": 2,
        "val_mapping_list.txt": 1,
        "train_val_mapping_list.txt": 3,
    }
    expected = "train/street 0.png\ttrainannot/street 0.png\ntrain/street 1.png\ttrainannot/street 1.png\n"
    assert (description.root / "train_mapping_list.txt").read_text() == expected
    both = (description.root / "train_val_mapping_list.txt").read_text()
    assert both == expected + "val/street 0.png\tvalannot/street 0.png\n"


def test_existing_lists_are_kept(make_dataset: MakeDataset, tmp_path: Path) -> None:
    description = make_dataset()
    (tmp_path / "val_mapping_list.txt").write_text("mine")
    with pytest.raises(ValueError, match="val_mapping_list.txt exist.*--overwrite"):
        export_lists(description, tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.txt")) == ["val_mapping_list.txt"]
    export_lists(description, tmp_path, overwrite=True, dry_run=True)
    assert (tmp_path / "val_mapping_list.txt").read_text() == "mine"
    export_lists(description, tmp_path, overwrite=True)
    assert (tmp_path / "val_mapping_list.txt").read_text() != "mine"


def test_names_that_a_style_cannot_hold(make_dataset: MakeDataset, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds a blank or line break.*--style quoted"):
        export_lists(make_dataset(), tmp_path / "out", style="space")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("style", ["tab", "quoted"])
def test_round_trip(make_dataset: MakeDataset, style: str) -> None:
    description = make_dataset(train=4, val=2)
    export_lists(description, description.root / "lists", style=style)  # type: ignore[arg-type]
    lists = {split: description.root / "lists" / f"{split}_mapping_list.txt" for split in ("val", "train")}
    imported = import_lists(description.root, lists)
    again = load_description(description.root)
    assert list(again.splits) == list(imported.splits) == ["val", "train"]
    for split in again.splits:
        assert [sample[:2] for sample in again.splits[split]] == [sample[:2] for sample in description.splits[split]]
    assert again.class_names == description.class_names


def test_a_folder_without_description(make_dataset: MakeDataset) -> None:
    root = make_dataset(train=2).root
    (root / "dataset.yaml").unlink()
    (root / "t.txt").write_text("train/street 0.png\ttrainannot/street 0.png\r\n\ntrain/street 1.png\n")
    with pytest.raises(ValueError, match="--labels"):
        import_lists(root, {"train": root / "t.txt"})
    preview = import_lists(root, {"train": root / "t.txt"}, labels=LABELS, dry_run=True)
    assert not (root / "dataset.yaml").exists()
    import_lists(root, {"train": root / "t.txt"}, labels=LABELS, name="mine")
    made = load_description(root)
    assert (made.name, made.class_names, made.label_ids) == ("mine", ("road", "car"), (7, 9))
    assert made.colors == preview.colors == ((1, 2, 3), (4, 5, 6))
    assert made.samples("train")[1].mask is None
    with pytest.raises(ValueError, match="leave out --labels"):
        import_lists(root, {"train": root / "t.txt"}, labels=LABELS)


def test_all_problems_at_once(make_dataset: MakeDataset) -> None:
    root = make_dataset(train=2, val=2).root
    (root / "a.txt").write_text(
        "train/street 0.png\ttrainannot/street 0.png\n"
        "train/street 1.png\ttrainannot/street 0.png\n"
        "gone.png\ttrainannot/street 1.png\n"
        "train/street 0.png trainannot/street 0.png\n"
        "x\ty\tz\n"
        "'open\n"
    )
    (root / "b.txt").write_text("train/street 0.png\tvalannot/street 0.png\n")
    before = (root / "dataset.yaml").read_bytes()
    with pytest.raises(ValueError, match="nothing was written") as caught:
        import_lists(root, {"train": root / "a.txt", "val": root / "b.txt"})
    message = str(caught.value)
    for part in (
        "a.txt:2: ",
        "stands at a.txt:1 too",
        "gone.png (a.txt:3)",
        "a.txt:4: 4 names",
        "a.txt:5: 3 names",
        "a.txt:6: No closing quotation",
        "is in two splits: a.txt:1 and b.txt:1",
    ):
        assert part in message
    assert (root / "dataset.yaml").read_bytes() == before


def test_missing_or_empty_list(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="mapping list not found"):
        read_mapping_list(tmp_path, tmp_path / "x.txt", [])
    (tmp_path / "x.txt").write_text("\n")
    problems: list[str] = []
    assert read_mapping_list(tmp_path, tmp_path / "x.txt", problems) == ()
    assert "is empty" in problems[0]


def test_odd_names_survive_quoting(make_dataset: MakeDataset) -> None:
    description = make_dataset(train=4, val=0)
    for sample, name in zip(description.samples("train"), ("it's", 'say "x"', "two\nlines", "街\tx"), strict=True):
        sample.image.rename(sample.image.with_name(f"{name}.png"))
    images = sorted((description.root / "train").iterdir())
    renamed = replace(description, splits={"train": tuple(Sample(image, None) for image in images)})
    export_lists(renamed, description.root, style="quoted")
    imported = import_lists(description.root, {"train": description.root / "train_mapping_list.txt"})
    assert [sample.image for sample in imported.samples("train")] == images
    for style in ("tab", "space"):
        with pytest.raises(ValueError, match="cannot tell from the end of a name"):
            export_lists(renamed, description.root, style=style, overwrite=True)  # type: ignore[arg-type]
