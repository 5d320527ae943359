"""The commands that make, arrange and store datasets; `__main__` gives them their names.

`checking_commands` holds those that look at one.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from pydantic import ValidationError
from rich.table import Table

from dataset_tools.clean import plan_clean, run_clean
from dataset_tools.config import SynthesizeConfig
from dataset_tools.description import DatasetDescription, load_description, summarize
from dataset_tools.labels import CITYSCAPES_LABELS, load_labels
from dataset_tools.mapping_lists import ListStyle, export_lists, import_lists
from dataset_tools.pack import plan_pack, write_pack
from dataset_tools.polygons import MASK_SUFFIXES, Encoding, write_label_ids
from dataset_tools.pull.archive import DEFAULT_LIMITS
from dataset_tools.pull.fetch import pull, read_address
from dataset_tools.split import PREVIOUS_NAME, SplitPlan, parse_ratios, plan_split, write_splits
from dataset_tools.synthesis.writer import synthesize
from dataset_tools.tfrecord import list_files, read_records, read_tfrecords, split_of, write_tfrecords
from fasterseg.base.commandline import ImageSize, Program, size_option
from fasterseg.base.console import CONSOLE
from fasterseg.base.errors import problems_of
from fasterseg.base.machine import available_cores
from fasterseg.base.text import printable

_SHOWN = 20
_DEFAULT_SIZE = ImageSize(128, 256)

RootArgument = Annotated[Path, typer.Argument(help="Dataset folder, with a dataset.yaml.")]
WorkersOption = Annotated[
    int, typer.Option(min=0, help="Parallel workers; 0 for one per CPU. Does not change the result.")
]
GroupOption = Annotated[
    str | None,
    typer.Option(help="Pattern on file names; files in which it finds the same text belong in one split."),
]
_OutArgument = Annotated[Path, typer.Argument(help="Dataset folder to make, or to go on with.")]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Check everything and show what would be done; write nothing.")
]

lists = Program("Mapping lists of other tools, in and out.")
tfrecord = Program("TFRecord files of the TensorFlow ports, in and out.")


def _megabytes(size_bytes: int) -> str:
    """Bytes as people read them."""
    return f"{size_bytes / 2**20:,.1f} MiB"


def _wrote(dry_run: bool) -> str:
    """The verb of a command's last line."""
    return "would write" if dry_run else "wrote"


def synthesize_command(
    out: _OutArgument,
    seed: Annotated[int, typer.Option(help="Seed of all scenes; the same seed gives the same bytes.")] = 0,
    size: Annotated[ImageSize, size_option("--size", "Image size in pixels.", default=_DEFAULT_SIZE)] = _DEFAULT_SIZE,
    train: Annotated[int, typer.Option(help="Images of the training split.")] = 400,
    val: Annotated[int, typer.Option(help="Images of the validation split.")] = 100,
    test: Annotated[int, typer.Option(help="Images of the test split.")] = 0,
    workers: WorkersOption = 0,
) -> None:
    """Make a dataset of procedural street scenes: nothing to download.

    Example: python -m dataset_tools synthesize data/synthetic --train 400 --val 100
    """
    try:
        config = SynthesizeConfig(seed=seed, image_size=size, train_images=train, val_images=val, test_images=test)
    except ValidationError as error:
        raise ValueError(problems_of("synthesize", error, SynthesizeConfig)) from error
    made = synthesize(out, config, workers=workers or available_cores())
    CONSOLE.print(f"wrote {made} new images to {out} ({summarize(load_description(out))})")
    CONSOLE.print(f"next: python -m dataset_tools check {out}")


def label_ids_command(
    root: Annotated[Path, typer.Option(help="Folder to search for *_polygons.json, at any depth.")],
    labels: Annotated[
        Path | None, typer.Option(help="Label definitions, YAML or CSV; Cityscapes' when not given.")
    ] = None,
    encoding: Annotated[Encoding, typer.Option(help="Which ids to paint.")] = "train-ids",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Repaint masks that exist.")] = False,
    dry_run: DryRunOption = False,
) -> None:
    """Paint the masks of polygon files in Cityscapes' form, each next to its file.

    Objects are painted in the order of their file; labels with an id below 0 are not painted.

    Example: python -m dataset_tools label-ids --root data/street/gtFine --labels data/street/labels.csv
    """
    definitions = CITYSCAPES_LABELS if labels is None else load_labels(labels)
    result = write_label_ids(root, definitions, encoding=encoding, overwrite=overwrite, dry_run=dry_run, progress=True)
    kept = f", kept {result.kept} that existed (--overwrite repaints them)" if result.kept else ""
    made = "nothing was written (--dry-run); would write" if dry_run else "wrote"
    CONSOLE.print(f"{made} {result.written} masks *{MASK_SUFFIXES[encoding]} below {root}{kept}")
    CONSOLE.print("next: python -m dataset_tools check ROOT, with the folder that holds dataset.yaml")


def pull_command(
    source: Annotated[str, typer.Argument(help="Folder, archive (zip, tar.*), its http(s) address, or git+ADDRESS.")],
    out: Annotated[Path, typer.Argument(help="Folder to fill, or to go on with.")],
    sha256: Annotated[str | None, typer.Option(help="Checksum that the archive or download must have.")] = None,
    ref: Annotated[str | None, typer.Option(help="Branch, tag or commit of a git repository.")] = None,
    max_gib: Annotated[
        float, typer.Option(help="Largest size of an archive's unpacked files, in GiB.")
    ] = DEFAULT_LIMITS.size_bytes / 2**30,
    max_ratio: Annotated[
        float, typer.Option(help="The same as a multiple of the archive's size.")
    ] = DEFAULT_LIMITS.ratio,
    dry_run: DryRunOption = False,
) -> None:
    """Get data from a folder, an archive, an address or a git repository; goes on where it was cut off.

    Example: python -m dataset_tools pull https://example.org/streets.tar.gz downloads/streets --sha256 9f86d0...

    Example: python -m dataset_tools pull git+https://example.org/streets.git downloads/streets --ref v1.0
    """
    limits = DEFAULT_LIMITS._replace(size_bytes=int(max_gib * 2**30), ratio=max_ratio)
    result = pull(source, out, sha256=sha256, ref=ref, limits=limits, dry_run=dry_run)
    shown = printable(read_address(source).public)
    if not result.fresh:
        CONSOLE.print(f"{printable(out)} already holds {shown}; nothing was done")
        return
    for note in result.notes:
        CONSOLE.print(printable(note))
    if result.files or not dry_run:
        facts = f"{result.files:,} files, {_megabytes(result.size_bytes)}, from {shown}"
        CONSOLE.print(f"{_wrote(dry_run)} {facts} to {printable(out)}")
    CONSOLE.print("next: python -m dataset_tools convert --help, or check, where it holds a dataset.yaml")


def split_command(
    root: RootArgument,
    ratios: Annotated[str, typer.Option(help="Part of each split; together 1.")] = "train=0.7,val=0.15,test=0.15",
    seed: Annotated[int, typer.Option(help="Decides which image goes where.")] = 0,
    stratify: Annotated[bool, typer.Option("--stratify", help="Divide every class by the ratios too.")] = False,
    group_by: GroupOption = None,
    source: Annotated[
        str | None, typer.Option("--from", help="Splits to divide, joined by +; the others stay. All when not given.")
    ] = None,
    dry_run: DryRunOption = False,
) -> None:
    """Divide a dataset into splits anew; images and masks stay where they are.

    Example: python -m dataset_tools split data/mine --ratios train=0.7,val=0.15,test=0.15 --seed 0 --stratify

    Example: python -m dataset_tools split data/camvid --group-by '^[^_]+' --dry-run
    """
    description = load_description(root)
    plan = plan_split(
        description, parse_ratios(ratios), seed=seed, stratify=stratify, group_by=group_by, source_splits=source
    )
    _show_plan(description, plan)
    if dry_run:
        CONSOLE.print("nothing was written (--dry-run)")
        return
    folder = write_splits(description, {**plan.splits, **plan.kept}, tool="split", label=f"seed{seed}")
    CONSOLE.print(f"wrote the lists to {printable(folder)} ({summarize(load_description(root))})")
    CONSOLE.print(f"the former division: {printable(folder / PREVIOUS_NAME)}; copied over dataset.yaml it is back")
    CONSOLE.print(f"next: python -m dataset_tools check {printable(root)}")


def _show_plan(description: DatasetDescription, plan: SplitPlan) -> None:
    """Images, groups and the part of every class in each new split."""
    total = sum(len(samples) for samples in plan.splits.values())
    table = Table("", *plan.splits)
    table.add_row("images", *(f"{len(samples)}" for samples in plan.splits.values()))
    table.add_row("part of the images", *(f"{len(samples) / total:.1%}" for samples in plan.splits.values()))
    if plan.groups is not None:
        table.add_row("groups", *(str(count) for count in plan.groups))
    pixels = plan.class_pixels.sum(axis=0)
    for name, column, count in zip(description.class_names, plan.class_pixels.T, pixels.tolist(), strict=True):
        table.add_row(printable(name), *(f"{part / count:.1%}" if count else "-" for part in column.tolist()))
    CONSOLE.print(table, soft_wrap=False)
    for split, row in zip(plan.splits, plan.class_pixels, strict=True):
        absent = [description.class_names[number] for number in np.flatnonzero((row == 0) & (pixels > 0)).tolist()]
        if absent:
            CONSOLE.print(f"warning: {split} has no pixel of {', '.join(map(printable, absent))}")
    for name, samples in plan.kept.items():
        CONSOLE.print(f"{name} stays as it is, {len(samples)} images")


@lists.command("export")
def export_command(
    root: RootArgument,
    out: Annotated[Path | None, typer.Argument(help="Folder of the lists; the dataset folder when not given.")] = None,
    style: Annotated[ListStyle, typer.Option(help="What stands between image and mask.")] = "tab",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace lists that exist.")] = False,
    dry_run: DryRunOption = False,
) -> None:
    """Write `<split>_mapping_list.txt`, "image<TAB>mask" relative to the dataset folder, and train_val of both.

    Example: python -m dataset_tools lists export data/mine
    """
    description = load_description(root)
    written = export_lists(description, out or root, style=style, overwrite=overwrite, dry_run=dry_run)
    for path, lines in written.items():
        CONSOLE.print(f"{_wrote(dry_run)} {printable(path)}: {lines} lines")


@lists.command("import")
def import_command(
    root: Annotated[Path, typer.Argument(help="Dataset folder, which the names in the lists are relative to.")],
    split_lists: Annotated[list[str], typer.Argument(metavar="SPLIT=LIST...", help="The list of each split.")],
    labels: Annotated[Path | None, typer.Option(help="Label definitions, where there is no dataset.yaml yet.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the dataset, where there is no dataset.yaml yet.")] = None,
    dry_run: DryRunOption = False,
) -> None:
    """Make the splits of a dataset folder be what mapping lists say; without dataset.yaml, make one.

    Example: python -m dataset_tools lists import data/mine train=train_mapping_list.txt --labels labels.csv
    """
    paths: dict[str, Path] = {}
    for item in split_lists:
        split, _, path = item.partition("=")
        if not split.replace("_", "").replace("-", "").isalnum() or not path or split in paths:
            raise ValueError(f"{item!r}: expected SPLIT=LIST with a new split name, such as train=lists/train.txt")
        beside = root / path
        paths[split] = beside if beside.is_file() else Path(path)
    definitions = None if labels is None else load_labels(labels)
    description = import_lists(root, paths, labels=definitions, name=name, dry_run=dry_run)
    CONSOLE.print(f"{_wrote(dry_run)} {printable(root)} ({summarize(description)})")
    CONSOLE.print(f"next: python -m dataset_tools check {printable(root)}")


def clean_command(
    root: Annotated[Path, typer.Argument(help="Folder to clean.")],
    everything: Annotated[bool, typer.Option("--all", help="Also datasets that these tools made.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: DryRunOption = False,
) -> None:
    """Remove packs, unused lists and leftovers (with --all: datasets) that these tools wrote, and nothing else.

    Example: python -m dataset_tools clean data/mine --dry-run
    """
    plan = plan_clean(root, everything=everything)
    for path, size in list(plan.files.items())[:_SHOWN]:
        CONSOLE.print(f"  {printable(path)} ({_megabytes(size)})")
    if len(plan.files) > _SHOWN:
        CONSOLE.print(f"  ... and {len(plan.files) - _SHOWN:,} more")
    for path, reason in list(plan.kept.items())[:_SHOWN]:
        CONSOLE.print(f"stays: {printable(path)}: {reason}")
    if len(plan.kept) > _SHOWN:
        CONSOLE.print(f"... and {len(plan.kept) - _SHOWN:,} more stay")
    summary = f"{len(plan.files):,} files, {_megabytes(plan.size_bytes)}"
    if dry_run or not plan.files:
        CONSOLE.print(f"would remove {summary}; nothing was removed" if plan.files else "nothing to remove")
        return
    if not yes:
        typer.confirm(f"Remove {summary}?", abort=True)
    CONSOLE.print(f"removed {run_clean(plan):,} files, {_megabytes(plan.size_bytes)}")


def pack_command(
    root: RootArgument,
    split: Annotated[str | None, typer.Option(help="Splits to pack, joined by +; all when not given.")] = None,
    dry_run: DryRunOption = False,
) -> None:
    """Write one memory-mapped file per split, which the loaders then read instead of decoding images.

    Packs that are up to date are kept, others are renewed.

    Example: python -m dataset_tools pack data/mine --split train
    """
    description = load_description(root)
    names = split.split("+") if split else [name for name, samples in description.splits.items() if samples]
    for name in names:
        plan = plan_pack(description, name)
        facts = f"{len(plan.samples):,} images, {_megabytes(plan.size_bytes)}"
        if plan.is_current:
            CONSOLE.print(f"{printable(plan.path)} is up to date ({facts})")
            continue
        if not dry_run:
            write_pack(description, plan)
        CONSOLE.print(f"{_wrote(dry_run)} {printable(plan.path)}: {facts}")
    CONSOLE.print("the loaders use packs while images and masks stay as they are; `clean` removes them")


@tfrecord.command("write")
def write_command(
    root: RootArgument,
    out: Annotated[Path, typer.Argument(help="Folder to write to, or to go on with.")],
    images_per_file: Annotated[int, typer.Option(help="Most images of one file.")] = 500,
    dry_run: DryRunOption = False,
) -> None:
    """Write every split as TFRecord files, and the classes beside them.

    Example: python -m dataset_tools tfrecord write data/mine data/mine_tfrecord
    """
    files = write_tfrecords(load_description(root), out, images_per_file=images_per_file, dry_run=dry_run)
    CONSOLE.print(f"{_wrote(dry_run)} {len(files)} files with {sum(files.values()):,} images to {printable(out)}")


@tfrecord.command("read")
def read_command(
    source: Annotated[Path, typer.Argument(help="TFRecord file, or the folder of such files; only read.")],
    out: _OutArgument,
    labels: Annotated[
        Path | None, typer.Option(help="Label definitions (YAML, CSV); labels.yaml beside the files when not given.")
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the dataset.")] = "tfrecord",
    dry_run: DryRunOption = False,
) -> None:
    """Make a dataset folder of TFRecord files; every checksum is checked.

    Example: python -m dataset_tools tfrecord read downloads/tfrecord data/mine --labels labels.csv
    """
    if dry_run:
        for path in list_files(source):
            count = sum(1 for _ in read_records(path))
            CONSOLE.print(f"{printable(path)}: {count:,} images for the split {printable(split_of(path))}")
        CONSOLE.print("nothing was written (--dry-run)")
        return
    description = read_tfrecords(source, out, labels=labels, name=name)
    CONSOLE.print(f"wrote {printable(out)} ({summarize(description)})")
    CONSOLE.print(f"next: python -m dataset_tools check {printable(out)}")
