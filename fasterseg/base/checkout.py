"""Which code runs: the commit of the checkout that this package is in, for the record of a run."""

import subprocess
from pathlib import Path
from typing import Any

import fasterseg

_PATIENCE_S = 10


def describe_checkout() -> dict[str, Any] | None:
    """The commit that runs and whether its tracked files are unchanged.

    Returns:
        `commit` and `clean`; None where the package is not in the top folder of a git checkout, such as an installed
        one, or where there is no git.
    """
    root = Path(fasterseg.__file__).resolve().parents[1]
    top = _git(root, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != root:
        return None
    commit = _git(root, "rev-parse", "HEAD")
    changes = _git(root, "status", "--porcelain", "--untracked-files=no")
    return None if commit is None or changes is None else {"commit": commit, "clean": not changes}


def _git(root: Path, *arguments: str) -> str | None:
    """What a git command prints; None where it fails."""
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return ended.stdout.strip() if ended.returncode == 0 else None
