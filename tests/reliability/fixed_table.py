"""A latency table of made-up times, so that what follows it does not depend on how fast the machine was.

The pipeline measures a table, its figures are replaced by ones that follow from the operators alone, and the pipeline
keeps the result as a table that is complete. Nothing but the layout of the file is known of the project.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

TABLE_NAME = "latency/latency_table.json"
_CREATED = "2000-01-01T00:00:00+00:00"
_REFERENCE_MS = 10.0
_CORRECTION = {"slope": 1.2, "per_operator_ms": -0.001, "constant_ms": -0.002}
_ERRORS = {"mean_error": 0.02, "largest_error": 0.05, "unsteady": 0}


def fix_table(path: Path) -> None:
    """Replaces every measured figure in a table's file."""
    table = json.loads(path.read_text(encoding="utf-8"))
    table["created"] = _CREATED
    table["reference_ms"] = _REFERENCE_MS
    table["conditions"]["clocks_mhz"] = {}
    table["correction"].update({**_CORRECTION, **_ERRORS})
    for entry in table["entries"].values():
        median_ms = made_up_ms(entry["spec"])
        entry.update(median_ms=median_ms, p95_ms=median_ms, spread=0.01, count=9, disturbed_count=0, stable=True)
        entry["reference_ms"] = _REFERENCE_MS
    path.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


def made_up_ms(spec: dict[str, Any]) -> float:
    """A time that grows with channels and size, at a speed that the kind of operator decides."""
    kind = "/".join(str(value) for value in spec.values() if isinstance(value, str))
    slowness = 1 + hashlib.sha256(kind.encode()).digest()[0] / 256
    work = spec.get("in_channels", 1) * spec.get("out_channels", 1) * spec.get("height", 1) * spec.get("width", 1)
    return round(0.005 + 2e-7 * slowness * work / spec.get("stride", 1) ** 2, 9)
