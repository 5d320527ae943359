import subprocess
import sys
from pathlib import Path

import pytest

from tests.reliability.record_pipeline import compare

SCRIPT = Path(__file__).with_name("record_pipeline.py")


def record(**results: object) -> dict[str, object]:
    return {"machine": "x86_64", "versions": {"torch": "2"}, "results": results}


def test_each_difference_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(record(miou=0.25, loss=1.0), record(miou=0.25, loss=1.5)) == 1
    assert capsys.readouterr().out.splitlines() == [
        "differs: loss: was 1.0, is 1.5",
        "1 differences in 2 recorded results",
    ]
    assert compare(record(miou=0.25), record(miou=0.25)) == 0


def test_other_libraries_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    compare(record(), {**record(), "versions": {"torch": "3"}})
    assert "note: versions was {'torch': '2'}, is {'torch': '3'}" in capsys.readouterr().out


def test_it_runs_by_its_path_too(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, str(SCRIPT)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and "say --out FILE, --compare FILE or both" in done.stderr
