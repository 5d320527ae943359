"""What the commands of `python -m dataset_tools` do; `__main__` gives them their names."""

import os
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console

from dataset_tools.checks import verify_split
from dataset_tools.convert.camvid import convert_camvid
from dataset_tools.description import DatasetDescription, load_description
from dataset_tools.labels import CITYSCAPES_LABELS, load_labels
from dataset_tools.polygons import MASK_SUFFIXES, Encoding, write_label_ids
from dataset_tools.synthesis.config import SynthesizeConfig
from dataset_tools.synthesis.writer import synthesize
from dataset_tools.validation import describe_problems

_console = Console(soft_wrap=True, highlight=False, markup=False)


def _parse_size(text: str) -> tuple[int, int]:
    """Reads "128x256" as (height, width)."""
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdigit() for part in parts):
        raise ValueError(f"--size {text!r}: expected HEIGHTxWIDTH in pixels, for example 128x256")
    return int(parts[0]), int(parts[1])


def _summary(description: DatasetDescription) -> str:
    """Classes and split sizes in one line."""
    splits = ", ".join(f"{split} {len(samples)}" for split, samples in description.splits.items())
    return f"{description.name}: {description.num_classes} classes; images: {splits}"


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
        raise ValueError(describe_problems(error, "synthesize")) from error
    made = synthesize(out, config, workers=workers or os.cpu_count() or 1)
    _console.print(f"wrote {made} new images to {out} ({_summary(load_description(out))})")
    _console.print(f"next: python -m dataset_tools check {out}")


def camvid_command(
    source: Annotated[Path, typer.Argument(help="CamVid in SegNet's layout; only read.")],
    out: Annotated[Path, typer.Argument(help="Dataset folder to make.")],
    copy: Annotated[bool, typer.Option("--copy", help="Copy the images instead of linking to them.")] = False,
) -> None:
    """Make a dataset of CamVid (train, trainannot, val, valannot, test, testannot; ids 0..11).

    Example: python -m dataset_tools convert camvid downloads/CamVid data/camvid
    """
    description = convert_camvid(source, out, image_mode="copy" if copy else "link")
    _console.print(f"wrote {out} ({_summary(description)}); images are {'copies' if copy else 'links to the source'}")
    _console.print(f"next: python -m dataset_tools check {out}")


def label_ids_command(
    root: Annotated[Path, typer.Option(help="Folder to search for *_polygons.json, at any depth.")],
    labels: Annotated[Path | None, typer.Option(help="Label definitions in YAML; Cityscapes' when not given.")] = None,
    encoding: Annotated[Encoding, typer.Option(help="Which ids to paint.")] = "train-ids",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Repaint masks that exist.")] = False,
) -> None:
    """Paint the masks of polygon files in Cityscapes' form, each next to its file.

    Example: python -m dataset_tools label-ids --root data/street/gtFine --labels data/street/labels.yaml
    """
    definitions = CITYSCAPES_LABELS if labels is None else load_labels(labels)
    result = write_label_ids(root, definitions, encoding=encoding, overwrite=overwrite, progress=True)
    kept = f", kept {result.kept} that existed (--overwrite repaints them)" if result.kept else ""
    _console.print(f"wrote {result.written} masks *{MASK_SUFFIXES[encoding]} below {root}{kept}")
    _console.print("next: python -m dataset_tools check ROOT, with the folder that holds dataset.yaml")


def check_command(
    root: Annotated[Path, typer.Argument(help="Dataset folder.")],
    split: Annotated[str | None, typer.Option(help="Split, or several joined by +; all when not given.")] = None,
    sample: Annotated[int, typer.Option(help="Pairs to read per split; 0 reads all.")] = 0,
) -> None:
    """Check a dataset: files, image and mask sizes, mask values.

    Example: python -m dataset_tools check data/camvid --split train+val
    """
    description = load_description(root)
    for name in [split] if split else list(description.splits):
        verify_split(description, name, sample_limit=sample or None)
    _console.print(f"checked {root}, no problems ({_summary(description)}); nothing was written")
    _console.print(
        "next: set dataset.root to this folder in an experiment file and run python pipeline.py --config FILE"
    )
