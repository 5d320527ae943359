"""The arguments and options that several converters take."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from dataset_tools.convert.coco import CocoSplit
from dataset_tools.convert.painting import Background, PaintOrder, ShapeOptions

SourceArgument = Annotated[Path, typer.Argument(help="Folder of the set; only read.")]
OutArgument = Annotated[Path, typer.Argument(help="Dataset folder to make, or to go on with.")]
CopyOption = Annotated[bool, typer.Option("--copy", help="Copy the images instead of linking to them.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Make and check every mask, but write nothing.")]
WorkersOption = Annotated[int, typer.Option(help="Threads; 0 for one per CPU. Does not change the result.")]
LabelsOption = Annotated[Path | None, typer.Option(help="Label definitions, YAML or CSV.")]
IgnoreOption = Annotated[
    list[str] | None, typer.Option("--ignore", help="Class whose pixels are ignored (255); may be repeated.")
]
SkipOption = Annotated[
    list[str] | None,
    typer.Option("--skip", help="Class whose objects are not painted: what is beneath is seen; may be repeated."),
]
OrderOption = Annotated[
    PaintOrder,
    typer.Option(
        "--order",
        help="Which of two overlapping objects is seen: file, the later one; reversed, the earlier one; area, the "
        "smaller one; class, the one of the higher train id.",
    ),
]
BackgroundOption = Annotated[
    Background,
    typer.Option("--background", help="Pixels without an object: a class `background` (train id 0), or ignored (255)."),
]
SplitOption = Annotated[
    list[str] | None,
    typer.Option("--split", help="NAME=ANNOTATIONS.json,IMAGES for files of other names; may be repeated."),
]


def shape_options(
    order: PaintOrder, background: Background, ignore: Sequence[str] | None, skip: Sequence[str] | None
) -> ShapeOptions:
    """The options of formats that hold objects."""
    return ShapeOptions(order, background, tuple(sorted(ignore or ())), tuple(sorted(skip or ())))


def parse_splits(source: Path, texts: Sequence[str] | None) -> dict[str, CocoSplit]:
    """Reads `NAME=ANNOTATIONS,IMAGES`, both below the source."""
    splits = {}
    for text in texts or ():
        name, _, paths = text.partition("=")
        annotations, _, images = paths.partition(",")
        if not (name and annotations and images):
            raise ValueError(f"--split {text!r}: expected NAME=ANNOTATIONS.json,IMAGES, both below {source}")
        splits[name] = CocoSplit(source / annotations, source / images)
    return splits
