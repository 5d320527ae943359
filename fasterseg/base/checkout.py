"""The commit of the git checkout that this package is in, for the record of a run."""

import subprocess
from pathlib import Path
from typing import Any

import fasterseg

_GIT_TIMEOUT_S = 10


def describe_checkout() -> dict[str, Any] | None:
    """The commit that runs and whether its tracked files are unchanged.

    Returns:
        `commit` and `clean`; None if the package is not in the top folder of a git checkout (such as an installed
        package), or if git is missing.
    """
    root = Path(fasterseg.__file__).resolve().parents[1]
    top = _git(root, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != root:
        return None
    commit = _git(root, "rev-parse", "HEAD")
    changes = _git(root, "status", "--porcelain", "--untracked-files=no")
    return None if commit is None or changes is None else {"commit": commit, "clean": not changes}


def _git(root: Path, *arguments: str) -> str | None:
    """The output of a git command; None if it fails."""
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    try:
        completed = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return completed.stdout.strip() if completed.returncode == 0 else None
