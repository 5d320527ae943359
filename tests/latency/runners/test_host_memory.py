import platform
import subprocess
import sys
from pathlib import Path

import pytest

import latency
from latency.runners.host_memory import keep_freed_memory

PAGE_FAULTS = """
import resource
import torch
from torch import nn
from latency.runners.pytorch import PyTorchRunner

# 64 MiB in and out: beyond what glibc keeps by itself
session = PyTorchRunner(threads=1).prepare(nn.ReLU(), (1, 16, 1024, 1024))
session.time_calls(20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
session.time_calls(5)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library manages memory its own way")
def test_a_warm_session_fetches_no_memory() -> None:
    root = Path(latency.__file__).parents[1]
    result = subprocess.run([sys.executable, "-c", PAGE_FAULTS], cwd=root, capture_output=True, text=True, check=True)
    pages_of_one_call = (64 << 20) // 4096
    assert int(result.stdout) < pages_of_one_call / 100


def test_another_library_is_left_alone_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    assert keep_freed_memory.__wrapped__() == "that of Darwin"
