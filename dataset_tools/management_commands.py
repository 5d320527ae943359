"""The commands that get data and arrange it: `pull`, `split`, `lists`, `clean`; `__main__` gives them their names."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.table import Table

from dataset_tools.clean import plan_clean, run_clean
from dataset_tools.description import DatasetDescription, load_description, summarize
from dataset_tools.labels import load_labels
from dataset_tools.mapping_lists import ListStyle, export_lists, import_lists
from dataset_tools.pull.archive import DEFAULT_LIMITS
from dataset_tools.pull.fetch import pull, read_address
from dataset_tools.split import PREVIOUS_NAME, SplitPlan, parse_ratios, plan_split, write_splits
from fasterseg.base.console import CONSOLE
from fasterseg.base.text import printable

_SHOWN = 20
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done; write nothing.")]

lists = typer.Typer(help="Mapping lists of other tools, in and out.", no_args_is_help=True)


def _megabytes(size_bytes: int) -> str:
    """Bytes as people read them."""
    return f"{size_bytes / 2**20:,.1f} MiB"


def pull_command(
    source: Annotated[str, typer.Argument(help="Folder, archive (zip, tar.*), its http(s) address, or git+ADDRESS.")],
    out: Annotated[Path, typer.Argument(help="Folder to fill, or to go on with.")],
    sha256: Annotated[str | None, typer.Option(help="Checksum that the archive or download must have.")] = None,
    ref: Annotated[str | None, typer.Option(help="Branch, tag or commit of a git repository.")] = None,
    max_gib: Annotated[float, typer.Option(help="Most that an archive may hold.")] = DEFAULT_LIMITS.size_bytes / 2**30,
    max_ratio: Annotated[float, typer.Option(help="Most that, as a multiple of its size.")] = DEFAULT_LIMITS.ratio,
    dry_run: _DryRun = False,
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
    verb = "would write" if dry_run else "wrote"
    if result.files or not dry_run:
        CONSOLE.print(
            f"{verb} {result.files:,} files, {_megabytes(result.size_bytes)}, from {shown} to {printable(out)}"
        )
    CONSOLE.print("next: python -m dataset_tools convert --help, or check, where it holds a dataset.yaml")


def split_command(
    root: Annotated[Path, typer.Argument(help="Dataset folder.")],
    ratios: Annotated[str, typer.Option(help="Part of each split; together 1.")] = "train=0.7,val=0.15,test=0.15",
    seed: Annotated[int, typer.Option(help="Decides which image goes where.")] = 0,
    stratify: Annotated[bool, typer.Option("--stratify", help="Divide every class by the ratios too.")] = False,
    group_by: Annotated[
        str | None, typer.Option(help="Regular expression on the file name; what matches in it stays together.")
    ] = None,
    source: Annotated[
        str | None, typer.Option("--from", help="Splits to divide, joined by +; the others stay. All when not given.")
    ] = None,
    dry_run: _DryRun = False,
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
    root: Annotated[Path, typer.Argument(help="Dataset folder.")],
    out: Annotated[Path | None, typer.Argument(help="Folder of the lists; the dataset folder when not given.")] = None,
    style: Annotated[ListStyle, typer.Option(help="What stands between image and mask.")] = "tab",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace lists that exist.")] = False,
    dry_run: _DryRun = False,
) -> None:
    """Write `<split>_mapping_list.txt`, "image<TAB>mask" relative to the dataset folder, and train_val of both.

    Example: python -m dataset_tools lists export data/mine
    """
    description = load_description(root)
    written = export_lists(description, out or root, style=style, overwrite=overwrite, dry_run=dry_run)
    for path, lines in written.items():
        CONSOLE.print(f"{'would write' if dry_run else 'wrote'} {printable(path)}: {lines} lines")


@lists.command("import")
def import_command(
    root: Annotated[Path, typer.Argument(help="Dataset folder, which the names in the lists are relative to.")],
    split_lists: Annotated[list[str], typer.Argument(metavar="SPLIT=LIST...", help="The list of each split.")],
    labels: Annotated[Path | None, typer.Option(help="Label definitions, where there is no dataset.yaml yet.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the dataset, where there is no dataset.yaml yet.")] = None,
    dry_run: _DryRun = False,
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
    CONSOLE.print(f"{'would write' if dry_run else 'wrote'} {printable(root)} ({summarize(description)})")
    CONSOLE.print(f"next: python -m dataset_tools check {printable(root)}")


def clean_command(
    root: Annotated[Path, typer.Argument(help="Folder to clean.")],
    everything: Annotated[bool, typer.Option("--all", help="Also datasets that these tools made.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: _DryRun = False,
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
