"""The commands that store a dataset in other forms: `pack` and `tfrecord`; `__main__` gives them their names."""

from pathlib import Path
from typing import Annotated

import typer

from dataset_tools.description import load_description, summarize
from dataset_tools.pack import plan_pack, write_pack
from dataset_tools.tfrecord import list_files, read_records, read_tfrecords, split_of, write_tfrecords
from fasterseg.base.console import CONSOLE
from fasterseg.base.text import printable

_DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done; write nothing.")]

tfrecord = typer.Typer(help="TFRecord files of the TensorFlow ports, in and out.", no_args_is_help=True)


def pack_command(
    root: Annotated[Path, typer.Argument(help="Dataset folder.")],
    split: Annotated[str | None, typer.Option(help="Splits to pack, joined by +; all when not given.")] = None,
    dry_run: _DryRun = False,
) -> None:
    """Write one memory-mapped file per split, which the loaders then read instead of decoding images.

    Packs that are up to date are kept, others are renewed.

    Example: python -m dataset_tools pack data/mine --split train
    """
    description = load_description(root)
    names = split.split("+") if split else [name for name, samples in description.splits.items() if samples]
    for name in names:
        plan = plan_pack(description, name)
        facts = f"{len(plan.samples):,} images, {plan.size_bytes / 2**20:,.1f} MiB"
        if plan.is_current:
            CONSOLE.print(f"{printable(plan.path)} is up to date ({facts})")
        elif dry_run:
            CONSOLE.print(f"would write {printable(plan.path)}: {facts}")
        else:
            write_pack(description, plan)
            CONSOLE.print(f"wrote {printable(plan.path)}: {facts}")
    CONSOLE.print("the loaders use packs while images and masks stay as they are; `clean` removes them")


@tfrecord.command("write")
def write_command(
    root: Annotated[Path, typer.Argument(help="Dataset folder.")],
    out: Annotated[Path, typer.Argument(help="Folder to write to, or to go on with.")],
    images_per_file: Annotated[int, typer.Option(help="Most images of one file.")] = 500,
    dry_run: _DryRun = False,
) -> None:
    """Write every split as TFRecord files, and the classes beside them.

    Example: python -m dataset_tools tfrecord write data/mine data/mine_tfrecord
    """
    files = write_tfrecords(load_description(root), out, images_per_file=images_per_file, dry_run=dry_run)
    verb = "would write" if dry_run else "wrote"
    CONSOLE.print(f"{verb} {len(files)} files with {sum(files.values()):,} images to {printable(out)}")


@tfrecord.command("read")
def read_command(
    source: Annotated[Path, typer.Argument(help="TFRecord file, or the folder of such files; only read.")],
    out: Annotated[Path, typer.Argument(help="Dataset folder to make, or to go on with.")],
    labels: Annotated[
        Path | None, typer.Option(help="Label definitions (YAML, CSV); labels.yaml beside the files when not given.")
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the dataset.")] = "tfrecord",
    dry_run: _DryRun = False,
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
