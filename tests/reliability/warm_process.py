"""Runs the pipeline in copies of a process that has imported everything, so that one starts within a second.

A copy has a process group of its own, which takes the workers that it starts; `end` ends all of them.
"""

import contextlib
import importlib
import multiprocessing
import os
import runpy
import signal
import sys
import time
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.reliability.file_operations import End, FileWatch

ROOT = Path(__file__).resolve().parents[2]
PIPELINE = ROOT / "pipeline.py"


def start(arguments: Sequence[str], folder: Path, *, log: Path, notes: Path, end: End | None = None) -> BaseProcess:
    """Starts the pipeline in a folder.

    Args:
        arguments: Of its command line.
        folder: Where it runs; what it does to files below is watched.
        log: File that what it says is appended to.
        notes: File that its operations are appended to: all of them, or the one at its end.
        end: The operation at which it ends itself.
    """
    process = multiprocessing.get_context("fork").Process(target=_run, args=(arguments, folder, log, notes, end))
    process.start()
    while process.is_alive() and os.getpgid(process.pid or 0) != process.pid:
        time.sleep(0.001)
    return process


def end(process: BaseProcess) -> None:
    """Kills a process that `start` gave, and all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid or 0, signal.SIGKILL)
    process.join()


def modules_note(log: Path) -> Path:
    """Where a run that reached its end lists the modules that it had imported."""
    return log.with_suffix(".modules")


def warm_up(log: Path | None = None) -> float:
    """Imports what the pipeline imports, or all that a run had imported at its end; returns the seconds it took."""
    started_s = time.monotonic()
    if log is None:
        sys.path.insert(0, str(ROOT))
        runpy.run_path(str(PIPELINE), run_name="warm_up")
    else:
        for name in modules_note(log).read_text().split():
            if name not in sys.modules and not name.startswith(("__", "warm_up")):
                try:
                    importlib.import_module(name)
                except ImportError:
                    continue
    return time.monotonic() - started_s


def _run(arguments: Sequence[str], folder: Path, log: Path, notes: Path, end: End | None) -> None:
    os.setpgid(0, 0)
    os.chdir(folder)
    said = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(said, 1)
    os.dup2(said, 2)
    # what was said before a kill is read to tell the stage
    sys.stdout.reconfigure(line_buffering=True)
    sys.argv = [str(PIPELINE), *arguments]
    FileWatch(str(folder), os.open(notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT), end).install()
    try:
        runpy.run_path(str(PIPELINE), run_name="__main__")
    finally:
        modules_note(log).write_text("\n".join(list(sys.modules)))
