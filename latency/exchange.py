"""`python -m latency import | export`: tables in and out of the released program's form."""

from pathlib import Path
from typing import Annotated

import typer

from fasterseg.base.commandline import OverwriteOption, say

_NPY_SUFFIX = ".npy"


def import_command(
    source: Annotated[Path, typer.Argument(help="The released latency_lookup_table.npy; nothing in it is executed.")],
    out: Annotated[Path, typer.Option(help="The table to write, a .json file.")],
    overwrite: OverwriteOption = False,
) -> None:
    """Import the released program's latency table: GTX 1080 Ti, TensorRT 5.1, 1024x2048, 19 classes.

    Example: python -m latency import latency_lookup_table.npy --out released_table.json
    """
    from latency.published import import_table

    _keep_existing(out, overwrite=overwrite)
    table = import_table(source)
    table.save(out)
    say(f"imported {len(table.entries)} entries; resizes, which the released table leaves out, count nothing")
    say(f"wrote {out}", f"next: python -m latency export {out} --out {out.with_suffix(_NPY_SUFFIX)} writes it back")


def export_command(
    table: Annotated[Path, typer.Argument(help="A latency table of ours.")],
    out: Annotated[Path, typer.Option(help="The .npy file to write.")],
    overwrite: OverwriteOption = False,
) -> None:
    """Write a table in the released program's form, a dict of its keys to milliseconds in a .npy file.

    Example: python -m latency export runs/toy/latency/latency_table.json --out latency_lookup_table.npy
    """
    from latency.published import export_table
    from latency.table import LatencyTable

    if out.suffix != _NPY_SUFFIX:
        raise ValueError(f"--out {out}: expected a name that ends in {_NPY_SUFFIX}")
    _keep_existing(out, overwrite=overwrite)
    left_out = export_table(LatencyTable.load(table), out)
    if left_out:
        say(f"left out, because that form has no key for them: {', '.join(spec.key for spec in left_out)}")
    say(f"wrote {out}")


def _keep_existing(out: Path, *, overwrite: bool) -> None:
    if out.exists() and not overwrite:
        raise ValueError(f"{out} exists already; choose another --out, or pass --overwrite to replace it")
