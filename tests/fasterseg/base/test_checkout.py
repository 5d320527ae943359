import shutil
import subprocess
from pathlib import Path

import pytest

import fasterseg
from fasterseg.base.checkout import describe_checkout

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    ended = subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return ended.stdout.strip()


def test_commit_and_changes_of_the_checkout_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "fasterseg" / "__init__.py"
    package.parent.mkdir()
    package.write_text("")
    monkeypatch.setattr(fasterseg, "__file__", str(package))
    assert describe_checkout() is None
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert describe_checkout() == {"commit": commit, "clean": True}
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "log.txt").write_text("not tracked")
    assert describe_checkout() == {"commit": commit, "clean": True}
    package.write_text("changed = True")
    assert describe_checkout() == {"commit": commit, "clean": False}


def test_a_package_installed_inside_somebodys_checkout_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site-packages" / "fasterseg" / "__init__.py"
    package.parent.mkdir(parents=True)
    package.write_text("")
    monkeypatch.setattr(fasterseg, "__file__", str(package))
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    assert describe_checkout() is None


def test_without_git_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert describe_checkout() is None
