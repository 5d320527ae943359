"""Rows as CSV text, with figures to six digits: the form of everything that this room records beside its JSON."""

import csv
import io
from collections.abc import Mapping, Sequence


def csv_text(rows: Sequence[Mapping[str, object]]) -> str:
    """The rows under a line with the columns of all of them, in the order in which they first appear.

    A cell that is None, or that its row does not have, is left empty.

    Args:
        rows: At least one.
    """
    text = io.StringIO()
    columns = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, fieldnames=columns, restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: f"{value:.6g}" if isinstance(value, float) else value for name, value in row.items()})
    return text.getvalue()
