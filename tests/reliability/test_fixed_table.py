import json
from pathlib import Path

from tests.reliability.fixed_table import fix_table, made_up_ms

SPEC = {"kind": "cell", "operator": "conv", "in_channels": 8, "out_channels": 8, "height": 16, "width": 32, "stride": 1}


def write_table(path: Path, *, median_ms: float, created: str) -> Path:
    figures = {"median_ms": median_ms, "p95_ms": 2 * median_ms, "spread": 0.1, "count": 7, "disturbed_count": 1}
    table = {
        "created": created,
        "reference_ms": median_ms,
        "conditions": {"device_name": "one", "clocks_mhz": {"cpu": 2000}},
        "correction": {"slope": 1.1, "networks": 6},
        "entries": {"cell": {**figures, "stable": False, "reference_ms": median_ms, "spec": SPEC}},
    }
    path.write_text(json.dumps(table))
    return path


def test_two_measured_tables_become_the_same(tmp_path: Path) -> None:
    first = write_table(tmp_path / "a.json", median_ms=1.0, created="2026-01-01T00:00:00+00:00")
    second = write_table(tmp_path / "b.json", median_ms=3.0, created="2026-01-02T00:00:00+00:00")
    fix_table(first)
    fix_table(second)
    assert first.read_text() == second.read_text()
    table = json.loads(first.read_text())
    assert table["conditions"]["device_name"] == "one" and table["correction"]["networks"] == 6
    assert table["entries"]["cell"]["median_ms"] == made_up_ms(SPEC)


def test_more_work_takes_longer() -> None:
    assert made_up_ms({**SPEC, "out_channels": 16}) > made_up_ms(SPEC) > made_up_ms({**SPEC, "stride": 2}) > 0
