from collections.abc import Callable
from pathlib import Path

import pytest

from dataset_tools.clean import plan_clean, run_clean
from dataset_tools.config import SynthesizeConfig
from dataset_tools.description import DatasetDescription, load_description
from dataset_tools.pack import plan_pack, write_pack
from dataset_tools.pull.fetch import pull
from dataset_tools.split import plan_split, write_splits
from dataset_tools.synthesis.writer import synthesize

MakeDataset = Callable[..., DatasetDescription]


def files_in(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_symlink() or path.is_file()}


def divide(description: DatasetDescription, seed: int) -> Path:
    plan = plan_split(description, {"train": 0.5, "val": 0.5}, seed=seed, progress=False)
    return write_splits(description, plan.splits, tool="split", label=f"seed{seed}")


def pulled(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    for name in ("a b.png", "sub/two\nlines.png", "sub/街's.png"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(b"data")
    (source / "link").symlink_to("sub")
    pull(str(source), tmp_path / "out", progress=False)
    return tmp_path / "out"


def test_data_of_others_stays(make_dataset: MakeDataset) -> None:
    description = make_dataset(train=4)
    before = files_in(description.root)
    write_pack(description, plan_pack(description, "train"), progress=False)
    unused, used = divide(description, 1), divide(description, 2)
    (description.root / "packs" / "notes.txt").write_text("mine")
    (description.root / "packs" / ".val.pack.123.tmp").write_text("half a pack")
    (unused / "my remarks.txt").write_text("mine")
    for everything in (False, True):
        plan = plan_clean(description.root, everything=everything)
        assert description.root / "packs" / "train.pack" in plan.files
        assert description.root / "packs" / ".val.pack.123.tmp" in plan.files
        assert "names its lists" in plan.kept[used]
        assert not plan.files.keys() & before
    assert run_clean(plan) == len(plan.files)
    left = files_in(description.root)
    assert before <= left
    assert {path for path in left - before if not path.is_relative_to(used)} == {
        description.root / "packs" / "notes.txt",
        unused / "my remarks.txt",
    }
    assert load_description(description.root).num_classes == 3


def test_everything_that_pull_wrote(tmp_path: Path) -> None:
    out = pulled(tmp_path)
    assert plan_clean(out).files == {}
    plan = plan_clean(out, everything=True)
    assert plan.files.keys() == files_in(out)
    assert plan.size_bytes == sum(path.lstat().st_size for path in files_in(out))
    run_clean(plan)
    assert not out.exists()
    assert len(files_in(tmp_path / "source")) == 4


def test_what_changed_or_came_since_stays(tmp_path: Path) -> None:
    out = pulled(tmp_path)
    (out / "a b.png").write_bytes(b"mine")
    (out / "sub" / "own.txt").write_text("mine")
    (out / "sub" / ".own.txt").write_text("mine")
    plan = plan_clean(out, everything=True)
    assert plan.kept == {
        out / "a b.png": "changed since it was made",
        out / "sub" / "own.txt": "not made by these tools",
        out / "sub" / ".own.txt": "not made by these tools",
    }
    run_clean(plan)
    assert files_in(out) == set(plan.kept)


def test_nothing_behind_a_link_is_removed(tmp_path: Path) -> None:
    """A folder of ours was moved away and a link put in its place."""
    out = pulled(tmp_path)
    (out / "sub").rename(tmp_path / "elsewhere")
    (out / "sub").symlink_to(tmp_path / "elsewhere")
    plan = plan_clean(out, everything=True)
    assert "behind a link" in plan.kept[out / "sub" / "街's.png"]
    run_clean(plan)
    assert len(files_in(tmp_path / "elsewhere")) == 2


def test_an_unfinished_command(tmp_path: Path) -> None:
    out = pulled(tmp_path)
    (out / "made_files.txt").unlink()
    (out / ".download").mkdir()
    (out / ".download" / "x.part").write_text("part")
    (out / "sub" / ".x.png.77.tmp").write_text("half")
    for everything in (False, True):
        plan = plan_clean(out, everything=everything)
        assert plan.files.keys() == {out / ".download" / "x.part", out / "sub" / ".x.png.77.tmp"}
    assert "cut off" in plan.kept[out]


def test_a_synthetic_dataset_goes_whole(tmp_path: Path) -> None:
    config = SynthesizeConfig(image_size=(64, 96), train_images=3, val_images=1)
    synthesize(tmp_path / "set", config, progress=False)
    divide(load_description(tmp_path / "set"), 1)
    description = load_description(tmp_path / "set")
    write_pack(description, plan_pack(description, "train"), progress=False)
    plan = plan_clean(tmp_path / "set", everything=True)
    assert plan.kept == {}
    run_clean(plan)
    assert not (tmp_path / "set").exists()


def test_images_that_links_show_stay(tmp_path: Path) -> None:
    """Only the link of a converted set goes, never what it points to."""
    out = pulled(tmp_path)
    plan = plan_clean(out, everything=True)
    assert out / "link" in plan.files
    assert not any(path.is_relative_to(out / "link") and path != out / "link" for path in plan.files)


def test_missing_folder_and_damaged_record(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="folder not found"):
        plan_clean(tmp_path / "none")
    out = pulled(tmp_path)
    (out / "made_files.txt").write_text("a b\n")
    with pytest.raises(ValueError, match=r"made_files\.txt:1: expected `size time name`"):
        plan_clean(out, everything=True)
