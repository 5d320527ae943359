import sys
from pathlib import Path

import pytest

from latency.runners.clocks import read_clocks_mhz

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for nvidia-smi is a shell script")


def stand_in(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    script = folder / "nvidia-smi"
    script.write_text(f"#!/bin/sh\n{text}\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/bin:/usr/bin")


def test_clocks_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, 'echo "1980, 2619, 1990, [N/A]"', monkeypatch)
    assert read_clocks_mhz() == {"clocks.sm": 1980, "clocks.mem": 2619, "clocks.max.sm": 1990}


def test_a_device_that_cannot_tell_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, "exit 9", monkeypatch)
    assert read_clocks_mhz() == {}
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert read_clocks_mhz() == {}
