import sys
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from latency.runners.cuda import read_clocks_mhz, time_on_stream
from latency.runners.pytorch import PyTorchRunner


class QueueStream:
    """A stream on which nothing happens before it is synchronised, as on a device that is behind its host."""

    def __init__(self) -> None:
        self.queue: list[str | int] = []
        self.created = count()
        self.times_ms: dict[int, float] = {}
        self.synchronizations = 0

    def create_event(self) -> int:
        assert not self.queue, "an event was created while the stream had work"
        return next(self.created)

    def record(self, event: int) -> None:
        self.queue.append(event)

    def synchronize(self) -> None:
        self.synchronizations += 1
        now_ms = 0.0
        for item in self.queue:
            if isinstance(item, int):
                self.times_ms[item] = now_ms
            else:
                now_ms += 3.0

    def elapsed_ms(self, start: int, end: int) -> float:
        return self.times_ms[end] - self.times_ms[start]


def test_each_run_stands_between_two_events_and_the_stream_is_waited_for_once() -> None:
    stream = QueueStream()
    calls = time_on_stream(lambda: stream.queue.append("run"), 4, stream)
    assert [call.duration_ms for call in calls] == [3.0] * 4 and all(call.undisturbed for call in calls)
    assert stream.synchronizations == 1
    assert [isinstance(item, int) for item in stream.queue] == [True, False, True] * 4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("mode", ["eager", "cuda_graph"])
def test_the_gpu_time_is_the_time_of_the_work(mode: str) -> None:
    """A clock that did not wait for the device would find a network and one eight times as deep equally fast."""
    runner = PyTorchRunner(device="cuda", mode=mode)
    medians = []
    for depth in (4, 32):
        layers = [nn.Conv2d(256, 256, 3, padding=1) for _ in range(depth)]
        session = runner.prepare(nn.Sequential(*layers), (1, 256, 256, 256))
        session.time_calls(5)
        durations = sorted(call.duration_ms for call in session.time_calls(11))
        medians.append(durations[5])
    assert 4 < medians[1] / medians[0] < 16


needs_a_shell = pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for nvidia-smi is a shell script")

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


@needs_a_shell
def test_clocks_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, 'echo "1980, 2619, 1990, [N/A]"', monkeypatch)
    assert read_clocks_mhz() == {"clocks.sm": 1980, "clocks.mem": 2619, "clocks.max.sm": 1990}


@needs_a_shell
@pytest.mark.parametrize(("device", "clock_mhz"), [(0, 1980), (1, 345)])
def test_the_clocks_are_those_of_the_device_that_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: int, clock_mhz: int
) -> None:
    """nvidia-smi counts all devices of the machine, PyTorch those that it may see: a number would name another one."""
    answers = 'case "$1" in --id=GPU-a1b2) echo "1980";; --id=GPU-c3d4) echo "345";; *) exit 6;; esac'
    stand_in(tmp_path, answers, monkeypatch, device=device)
    assert read_clocks_mhz() == {"clocks.sm": clock_mhz}


@needs_a_shell
def test_a_device_that_cannot_tell_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, "exit 9", monkeypatch)
    assert read_clocks_mhz() == {}
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert read_clocks_mhz() == {}


@needs_a_shell
def test_without_a_gpu_there_are_no_clocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, 'echo "1980, 2619, 1990, 2619"', monkeypatch)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert read_clocks_mhz() == {}
