import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# a file that is synced and one that is not, each renamed into its place, and one that grows
WRITES = """
import os, sys
from pathlib import Path
from tests.reliability.file_operations import End, FileWatch
folder, number, ending = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
(folder / "grown").write_text("old ")
notes = os.open(folder.parent / "notes", os.O_WRONLY | os.O_CREAT)
FileWatch(str(folder), notes, End(number, ending, seed=1) if number else None).install()
for name in ("synced", "unsynced"):
    with (folder / f"{name}.tmp").open("w") as file:
        file.write("whole")
        file.flush()
        if name == "synced":
            os.fsync(file.fileno())
    (folder / f"{name}.tmp").replace(folder / name)
with (folder / "grown").open("a") as file:
    file.write("new")
(folder / "last").mkdir()
"""
OPERATIONS = [
    "open synced.tmp",
    "sync synced.tmp",
    "rename synced.tmp",
    "open unsynced.tmp",
    "rename unsynced.tmp",
    "open grown",
    "make folder last",
]


def write(folder: Path, number: int, ending: str = "kill") -> tuple[dict[str, str], list[str], int]:
    """What is there after the writes: texts by file, the operations noted, and the exit code."""
    (folder / "run").mkdir()
    command = [sys.executable, "-c", WRITES, str(folder / "run"), str(number), ending]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    texts = {path.name: path.read_text() for path in (folder / "run").iterdir() if path.is_file()}
    return texts, (folder / "notes").read_text().splitlines(), done.returncode


def test_all_operations_are_noted(tmp_path: Path) -> None:
    texts, notes, exit_code = write(tmp_path, 0)
    assert texts == {"synced": "whole", "unsynced": "whole", "grown": "old new"}
    assert notes == OPERATIONS and exit_code == 0


@pytest.mark.parametrize(
    ("number", "ending", "left"),
    [
        (1, "kill", {}),
        (1, "opened", {"synced.tmp": ""}),
        (3, "kill", {"synced.tmp": "whole"}),
        (4, "kill", {"synced": "whole"}),
    ],
)
def test_a_kill_comes_before_its_operation(tmp_path: Path, number: int, ending: str, left: dict[str, str]) -> None:
    texts, notes, exit_code = write(tmp_path, number, ending)
    assert texts == {"grown": "old ", **left}
    assert notes == [OPERATIONS[number - 1]] and exit_code == -signal.SIGKILL


def test_a_power_cut_takes_only_what_was_not_synced(tmp_path: Path) -> None:
    texts, _, exit_code = write(tmp_path, 7, "power")
    assert exit_code == -signal.SIGKILL
    assert texts["synced"] == "whole"
    assert texts["unsynced"] in ("", "whole") and texts["grown"] in ("old ", "old new")
    assert texts["unsynced"] == "" or texts["grown"] == "old "
