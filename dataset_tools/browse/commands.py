"""The command `browse` of `python -m dataset_tools`: a contact sheet of a dataset."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import track

from dataset_tools.browse.sheet import sheet_html, sheet_png
from dataset_tools.browse.tiles import Selection, make_tiles, select_samples
from dataset_tools.crops import Crop, chosen_crops
from dataset_tools.description import DatasetDescription, load_description
from fasterseg.base.console import CONSOLE
from fasterseg.base.files import write_bytes
from fasterseg.base.text import printable

_PICTURE_WIDTH_PX = 300


def browse_command(
    root: Annotated[Path, typer.Argument(help="Dataset folder, with a dataset.yaml.")],
    out: Annotated[Path, typer.Argument(help="File to write, ending in .png or .html.")],
    split: Annotated[str | None, typer.Option(help="Split, or several joined by +; the first when not given.")] = None,
    count: Annotated[int, typer.Option(min=1, help="How many images.")] = 12,
    class_name: Annotated[str | None, typer.Option("--class", help="Only images that contain this class.")] = None,
    augment: Annotated[bool, typer.Option("--augment", help="Show each image before and after augmentation.")] = False,
    crop: Annotated[
        tuple[int, int] | None, typer.Option(help="Crop of the augmentation: height width, in pixels.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="Experiment file; the crop and scales of its last stage are shown.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides the images and their augmentation.")] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only name the images; write nothing.")] = False,
) -> None:
    """Make a contact sheet: images with their masks laid over, and a legend of the classes.

    Example: python -m dataset_tools browse data/camvid camvid.png --split val --class bicyclist
    """
    if out.suffix.lower() not in (".png", ".html"):
        raise ValueError(f"{out}: expected a file name that ends in .png or .html")
    crops = chosen_crops(crop, config)
    if augment != bool(crops):
        raise ValueError(
            "--augment needs the crop that is trained on, --crop HEIGHT WIDTH or --config FILE, and they it"
        )
    description = load_description(root)
    _check_out(out, description)
    selection = Selection(split or next(iter(description.splits)), count, class_name, seed)
    samples = select_samples(description, selection)
    if dry_run:
        for sample in samples:
            CONSOLE.print(f"{printable(sample.image)} ({printable(sample.origin)})")
        CONSOLE.print(f"would write {len(samples)} images to {printable(out)}; nothing was written")
        return
    shown_crop = crops[-1] if crops else None
    made = make_tiles(description, samples, crop=shown_crop, seed=seed, width_px=_PICTURE_WIDTH_PX)
    tiles = list(track(made, description="browse", total=len(samples), transient=True))
    title = _title(description, selection, shown_crop)
    is_page = out.suffix.lower() == ".html"
    page = sheet_html(title, tiles, description).encode() if is_page else sheet_png(title, tiles, description)
    write_bytes(out, page)
    CONSOLE.print(f"wrote {printable(out)}: {len(tiles)} images of {printable(title)}")
    CONSOLE.print(f"next: python -m dataset_tools check {printable(root)}")


def _check_out(out: Path, description: DatasetDescription) -> None:
    """Refuses to write over a file of the dataset."""
    for samples in description.splits.values():
        for sample in samples:
            if out.absolute() in (path.absolute() for path in sample[:2] if isinstance(path, Path)):
                raise ValueError(f"{out} is a file of the dataset ({sample.origin}); give another name")


def _title(description: DatasetDescription, selection: Selection, crop: Crop | None) -> str:
    """What the sheet shows, in one line."""
    parts = [f"{description.name}, {selection.split}"]
    if selection.class_name is not None:
        parts.append(f"with {selection.class_name}")
    if crop is not None:
        parts.append(f"augmented, seed {selection.seed}")
    return ", ".join(parts)
