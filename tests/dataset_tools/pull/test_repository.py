import os
import subprocess
from pathlib import Path

import pytest

from dataset_tools.pull.repository import check_out

ENVIRONMENT = {
    **os.environ,
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.org",
    "GIT_CONFIG_GLOBAL": "/dev/null",
}


def git(folder: Path, *arguments: str) -> str:
    result = subprocess.run(["git", "-C", folder, *arguments], env=ENVIRONMENT, check=True, capture_output=True)
    return result.stdout.decode().strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "my repo"
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch", "main")
    (folder / "images").mkdir()
    (folder / "images" / "two\nlines 街.png").write_bytes(b"one")
    (folder / "made_by.json").write_text("theirs")
    (folder / "link").symlink_to("images")
    commit(folder)
    git(folder, "tag", "v1")
    (folder / "images" / "later.png").write_bytes(b"two")
    commit(folder)
    return folder


def commit(folder: Path) -> str:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "-m", "x")
    return git(folder, "rev-parse", "HEAD")


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or path.is_file()}


def test_newest_commit(repository: Path, tmp_path: Path) -> None:
    made = check_out(str(repository), tmp_path / "out")
    assert made.commit == git(repository, "rev-parse", "HEAD")
    assert names(tmp_path / "out") == {"images/two\nlines 街.png", "images/later.png", "link"}
    assert {path.relative_to(tmp_path / "out").as_posix() for path in made.paths} == names(tmp_path / "out")
    assert made.size_bytes == 6


def test_tag_and_commit(repository: Path, tmp_path: Path) -> None:
    check_out(str(repository), tmp_path / "tag", ref="v1")
    assert names(tmp_path / "tag") == {"images/two\nlines 街.png", "link"}
    head = git(repository, "rev-parse", "HEAD")
    assert check_out(str(repository), tmp_path / "commit", ref=head).commit == head


@pytest.mark.parametrize("target", ["/etc", "../outside", "images/../../x"])
def test_links_outwards_are_refused(repository: Path, tmp_path: Path, target: str) -> None:
    (repository / "evil").symlink_to(target)
    commit(repository)
    with pytest.raises(ValueError, match="'evil' is a link(.|\n)*"):
        check_out(str(repository), tmp_path / "out")
    assert not (tmp_path / "out" / "images").exists()


def test_submodules_are_named(repository: Path, tmp_path: Path) -> None:
    head = git(repository, "rev-parse", "HEAD")
    git(repository, "update-index", "--add", "--cacheinfo", f"160000,{head},module")
    git(repository, "commit", "--quiet", "-m", "x")
    assert check_out(str(repository), tmp_path / "out").submodules == ("module",)


def test_lfs_pointers_are_an_error(repository: Path, tmp_path: Path) -> None:
    (repository / "big.png").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n")
    commit(repository)
    with pytest.raises(ValueError, match="1 files .* are git-lfs pointers.*git-lfs"):
        check_out(str(repository), tmp_path / "out")


@pytest.mark.parametrize(
    ("address", "ref", "message"),
    [
        ("--upload-pack=touch x", None, "begins with a dash"),
        ("x", "--exec=touch", "begins with a dash"),
        ("ext::sh -c true", None, "git fetch failed"),
        ("/nothing/here", None, "git fetch failed"),
    ],
)
def test_addresses_that_git_refuses(tmp_path: Path, address: str, ref: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_out(address, tmp_path / "out", ref=ref)


def test_unknown_ref(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="git fetch failed.*nothing-like-this"):
        check_out(str(repository), tmp_path / "out", ref="nothing-like-this")


def test_without_git(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(FileNotFoundError, match="git is not installed"):
        check_out(str(repository), tmp_path / "out")


def test_clutter_of_macos_is_left_out(repository: Path, tmp_path: Path) -> None:
    clutter = ("._a", "sub/._a b", "sub/__MACOSX/._c", "__MACOSX/x", "._d/e")
    for name in (*clutter, "sub/kept._x"):
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / name).write_text("x")
    commit(repository)
    made = check_out(str(repository), tmp_path / "out")
    assert made.left_out == len(clutter)
    assert (tmp_path / "out/sub/kept._x").is_file()
    assert not any((tmp_path / "out" / name).exists() for name in clutter)
    assert all(path.exists() for path in made.paths)
