"""The short form of `kills`: one at a random time of each stage up to the student.

Exports take most of the time of so small a run; the long form kills them, too.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_a_stage_that_is_killed_ends_as_if_nothing_had_been() -> None:
    command = [sys.executable, "-m", "tests.reliability.kills", "--kills", "6", "--stages", "--until", "student"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    struck = re.search(r"^(\d+) kills: 0 runs failed", done.stdout, re.MULTILINE)
    assert struck and int(struck[1]) >= 2, done.stdout
