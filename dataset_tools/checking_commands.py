"""The commands that look at a dataset: `check`, the dataset doctor, and `browse`, its contact sheets."""

from pathlib import Path
from typing import Annotated

import typer

from dataset_tools.browse import Selection, make_tiles, select_samples, sheet_html, sheet_png
from dataset_tools.commands import DryRunOption, GroupOption, RootArgument, WorkersOption
from dataset_tools.config import chosen_crops
from dataset_tools.description import DatasetDescription, load_description
from dataset_tools.doctor.dataset_checks import DEFAULT_DISTANCE
from dataset_tools.doctor.examine import CheckOptions, examine, examine_fast, load_or_report, select_splits
from dataset_tools.doctor.inspection import HASH_BITS
from dataset_tools.doctor.report import Report, print_report, report_page
from dataset_tools.split import compile_group_pattern
from fasterseg.base.commandline import ImageSize, size_option
from fasterseg.base.console import CONSOLE, tracked
from fasterseg.base.files import write_bytes, write_text
from fasterseg.base.machine import available_cores
from fasterseg.base.text import printable

_PICTURE_WIDTH_PX = 300

_CropOption = Annotated[ImageSize | None, size_option("--crop", "Training crop in pixels.")]
_ConfigOption = Annotated[Path | None, typer.Option(help="Experiment file; the crops of its stages are taken.")]


def check_command(
    root: RootArgument,
    split: Annotated[str | None, typer.Option(help="Split, or several joined by +; all when not given.")] = None,
    fast: Annotated[bool, typer.Option("--fast", help="Only what the training stages run first.")] = False,
    crop: _CropOption = None,
    config: _ConfigOption = None,
    group_by: GroupOption = None,
    near_distance: Annotated[
        int,
        typer.Option(min=0, max=HASH_BITS, help=f"Near-duplicates differ in at most this many of {HASH_BITS} bits."),
    ] = DEFAULT_DISTANCE,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the report as JSON.")] = None,
    html_file: Annotated[Path | None, typer.Option("--html", help="Write the report as a page with pictures.")] = None,
    workers: WorkersOption = 0,
) -> None:
    """Check a dataset: files, pairs, masks, classes, and copies across splits. Exit code 1 when there are errors.

    With --crop or --config, images smaller than the crop are named.

    Example: python -m dataset_tools check data/camvid --group-by "^[^_]+" --html camvid.html
    """
    pattern = compile_group_pattern(group_by) if group_by is not None else None
    crops = chosen_crops(crop, config)
    if fast and (pattern is not None or crops):
        raise ValueError(
            "--fast looks at neither groups nor crops; leave out --fast, or --group-by, --crop and --config"
        )
    options = CheckOptions(crops, pattern, near_distance, workers or available_cores(), progress=True)
    found = load_or_report(root)
    description = None if isinstance(found, Report) else found
    report = found if isinstance(found, Report) else _examine(found, split, fast, options)
    print_report(report, CONSOLE)
    if json_file is not None:
        write_text(json_file, report.to_json())
    if html_file is not None:
        write_text(html_file, report_page(report, description))
    written = [printable(path) for path in (json_file, html_file) if path is not None]
    CONSOLE.print(f"checked {printable(root)}: {report.summary()}; wrote {' and '.join(written) or 'nothing'}")
    if report.has_errors:
        raise typer.Exit(1)
    CONSOLE.print(
        "next: set dataset.root to this folder in an experiment file and run python pipeline.py --config FILE"
    )


def _examine(description: DatasetDescription, split: str | None, fast: bool, options: CheckOptions) -> Report:
    """Runs the whole examination, or its fast part."""
    splits = select_splits(description, split)
    return examine_fast(description, splits) if fast else examine(description, splits, options)


def browse_command(
    root: RootArgument,
    out: Annotated[Path, typer.Argument(help="File to write, ending in .png or .html.")],
    split: Annotated[str | None, typer.Option(help="Split, or several joined by +; the first when not given.")] = None,
    count: Annotated[int, typer.Option(min=1, help="How many images.")] = 12,
    class_name: Annotated[str | None, typer.Option("--class", help="Only images that contain this class.")] = None,
    augment: Annotated[bool, typer.Option("--augment", help="Show each image before and after augmentation.")] = False,
    crop: _CropOption = None,
    config: _ConfigOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides the images and their augmentation.")] = 0,
    dry_run: DryRunOption = False,
) -> None:
    """Make a contact sheet: images with their masks laid over, and a legend of the classes.

    --augment needs --crop or --config; of an experiment file, the crop and scales of the last stage are shown.

    Example: python -m dataset_tools browse data/camvid camvid.png --split val --class bicyclist
    """
    if out.suffix.lower() not in (".png", ".html"):
        raise ValueError(f"{out}: expected a file name that ends in .png or .html")
    crops = chosen_crops(crop, config)
    if augment != bool(crops):
        raise ValueError(
            "--augment needs the crop that is trained on, --crop HEIGHTxWIDTH or --config FILE, and they it"
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
    tiles = list(tracked(made, "browse", total=len(samples)))
    title = selection.title(description, shown_crop)
    is_page = out.suffix.lower() == ".html"
    write_bytes(
        out, sheet_html(title, tiles, description).encode() if is_page else sheet_png(title, tiles, description)
    )
    CONSOLE.print(f"wrote {printable(out)}: {len(tiles)} images of {printable(title)}")
    CONSOLE.print(f"next: python -m dataset_tools check {printable(root)}")


def _check_out(out: Path, description: DatasetDescription) -> None:
    """Refuses to write over a file of the dataset."""
    for samples in description.splits.values():
        for sample in samples:
            if out.absolute() in (path.absolute() for path in sample[:2] if isinstance(path, Path)):
                raise ValueError(f"{out} is a file of the dataset ({sample.origin}); give another name")
