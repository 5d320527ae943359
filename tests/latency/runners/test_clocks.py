import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from latency.runners.clocks import read_clocks_mhz

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for nvidia-smi is a shell script")

UUIDS = ("a1b2", "c3d4")


def stand_in(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch, *, device: int = 0) -> None:
    """A program in nvidia-smi's place, and a GPU that PyTorch seems to use."""
    script = folder / "nvidia-smi"
    script.write_text(f"#!/bin/sh\n{text}\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/bin:/usr/bin")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: device)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid=UUIDS[index]))


def test_clocks_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, 'echo "1980, 2619, 1990, [N/A]"', monkeypatch)
    assert read_clocks_mhz() == {"clocks.sm": 1980, "clocks.mem": 2619, "clocks.max.sm": 1990}


@pytest.mark.parametrize(("device", "clock_mhz"), [(0, 1980), (1, 345)])
def test_the_clocks_are_those_of_the_device_that_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: int, clock_mhz: int
) -> None:
    """nvidia-smi counts all devices of the machine, PyTorch those that it may see: a number would name another one."""
    answers = 'case "$1" in --id=GPU-a1b2) echo "1980";; --id=GPU-c3d4) echo "345";; *) exit 6;; esac'
    stand_in(tmp_path, answers, monkeypatch, device=device)
    assert read_clocks_mhz() == {"clocks.sm": clock_mhz}


def test_a_device_that_cannot_tell_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, "exit 9", monkeypatch)
    assert read_clocks_mhz() == {}
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert read_clocks_mhz() == {}


def test_without_a_gpu_there_are_no_clocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, 'echo "1980, 2619, 1990, 2619"', monkeypatch)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert read_clocks_mhz() == {}
