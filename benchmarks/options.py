"""The options that the benchmarks share, each written once, and the file that their figures go to."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from fasterseg.base.files import write_text
from fasterseg.base.text import csv_text


def benchmark_parser(
    doc: str | None,
    *,
    rounds: int | None = None,
    threads: int | None = None,
    batch: int | None = None,
    size: tuple[str, tuple[int, int]] | None = None,
) -> argparse.ArgumentParser:
    """A command line with `--csv` and those shared options that have a default here.

    Args:
        doc: The benchmark's docstring; its first line is the description.
        rounds: How often everything takes a turn.
        threads: CPU threads.
        batch: Images of a batch.
        size: Name and default of the option for (height, width), such as `--crop`.
    """
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    if size is not None:
        name, default = size
        parser.add_argument(name, type=int, nargs=2, default=default, metavar=("HEIGHT", "WIDTH"), help="pixels")
    if batch is not None:
        parser.add_argument("--batch", type=int, default=batch, help="images of a batch")
    if rounds is not None:
        parser.add_argument("--rounds", type=int, default=rounds, help="how often everything takes a turn")
    if threads is not None:
        parser.add_argument("--threads", type=int, default=threads, help="CPU threads")
    parser.add_argument("--csv", type=Path, help="write the figures to this file, named by the condition")
    return parser


def write_rows(path: Path | None, rows: Sequence[Mapping[str, object]]) -> None:
    """Writes the figures as CSV, where a file was asked for."""
    if path is not None:
        write_text(path, csv_text(rows))
