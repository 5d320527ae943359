"""What the commands of `python -m dataset_tools` do; `__main__` gives them their names."""

from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from dataset_tools.description import load_description, summarize
from dataset_tools.labels import CITYSCAPES_LABELS, load_labels
from dataset_tools.polygons import MASK_SUFFIXES, Encoding, write_label_ids
from dataset_tools.synthesis.config import SynthesizeConfig
from dataset_tools.synthesis.writer import synthesize
from fasterseg.base.console import CONSOLE
from fasterseg.base.errors import problems_of
from fasterseg.base.machine import available_cores


def _parse_size(text: str) -> tuple[int, int]:
    """Reads "128x256" as (height, width)."""
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdigit() for part in parts):
        raise ValueError(f"--size {text!r}: expected HEIGHTxWIDTH in pixels, for example 128x256")
    return int(parts[0]), int(parts[1])


def synthesize_command(
    out: Annotated[Path, typer.Argument(help="Dataset folder to make, or to go on with.")],
    seed: Annotated[int, typer.Option(help="Seed of all scenes; the same seed gives the same bytes.")] = 0,
    size: Annotated[str, typer.Option(help="Image size, HEIGHTxWIDTH in pixels.")] = "128x256",
    train: Annotated[int, typer.Option(help="Images of the training split.")] = 400,
    val: Annotated[int, typer.Option(help="Images of the validation split.")] = 100,
    test: Annotated[int, typer.Option(help="Images of the test split.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes; 0 for one per CPU. Does not change the result.")] = 0,
) -> None:
    """Make a dataset of procedural street scenes: nothing to download.

    Example: python -m dataset_tools synthesize data/synthetic --train 400 --val 100
    """
    try:
        config = SynthesizeConfig(
            seed=seed, image_size=_parse_size(size), train_images=train, val_images=val, test_images=test
        )
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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Paint and check every mask, but write nothing.")] = False,
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
