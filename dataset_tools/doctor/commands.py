"""The command `check` of `python -m dataset_tools`: the dataset doctor."""

from pathlib import Path
from typing import Annotated

import typer

from dataset_tools.crops import chosen_crops
from dataset_tools.doctor.examine import CheckOptions, examine, load_or_report, select_splits
from dataset_tools.doctor.fast import examine_fast
from dataset_tools.doctor.html import report_page
from dataset_tools.doctor.perceptual import DEFAULT_DISTANCE, HASH_BITS
from dataset_tools.doctor.report import Report, print_report
from dataset_tools.grouping import compile_group_pattern
from fasterseg.base.console import CONSOLE
from fasterseg.base.files import write_text
from fasterseg.base.machine import available_cores
from fasterseg.base.text import printable


def check_command(
    root: Annotated[Path, typer.Argument(help="Dataset folder, with a dataset.yaml.")],
    split: Annotated[str | None, typer.Option(help="Split, or several joined by +; all when not given.")] = None,
    fast: Annotated[bool, typer.Option("--fast", help="Only what the training stages run first.")] = False,
    crop: Annotated[
        tuple[int, int] | None, typer.Option(help="Crop that the images have to hold: height width, in pixels.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Experiment file whose crops the images have to hold.")] = None,
    group_by: Annotated[
        str | None,
        typer.Option(help="Pattern on file names; files in which it finds the same text must stand in one split."),
    ] = None,
    near_distance: Annotated[
        int,
        typer.Option(min=0, max=HASH_BITS, help=f"Near-duplicates differ in at most this many of {HASH_BITS} bits."),
    ] = DEFAULT_DISTANCE,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the report as JSON.")] = None,
    html_file: Annotated[Path | None, typer.Option("--html", help="Write the report as a page with pictures.")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 for one per CPU. Does not change the result.")] = 0,
) -> None:
    """Check a dataset: files, pairs, masks, classes, and copies across splits. Exit code 1 when there are errors.

    Example: python -m dataset_tools check data/camvid --group-by "^[^_]+" --html camvid.html
    """
    pattern = compile_group_pattern(group_by) if group_by is not None else None
    crops = chosen_crops(crop, config)
    if fast and (pattern is not None or crops):
        raise ValueError(
            "--fast looks at neither groups nor crops; leave out --fast, or --group-by, --crop and --config"
        )
    found = load_or_report(root)
    if isinstance(found, Report):
        report = found
        page = report_page(report, colors=(), ignore_index=255) if html_file is not None else ""
    else:
        splits = select_splits(found, split)
        options = CheckOptions(crops, pattern, near_distance, workers or available_cores(), progress=True)
        report = examine_fast(found, splits) if fast else examine(found, splits, options)
        page = (
            report_page(report, colors=found.colors, ignore_index=found.ignore_index) if html_file is not None else ""
        )
    print_report(report, CONSOLE)
    if json_file is not None:
        write_text(json_file, report.to_json())
    if html_file is not None:
        write_text(html_file, page)
    written = [printable(path) for path in (json_file, html_file) if path is not None]
    CONSOLE.print(f"checked {printable(root)}: {report.summary()}; wrote {' and '.join(written) or 'nothing'}")
    if report.has_errors:
        raise typer.Exit(1)
    CONSOLE.print(
        "next: set dataset.root to this folder in an experiment file and run python pipeline.py --config FILE"
    )
