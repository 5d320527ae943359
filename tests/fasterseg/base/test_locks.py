import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fasterseg.base.locks import LOCK_NAME, FolderInUseError, FolderLock


@contextmanager
def holding(folder: Path, *, then: str = "time.sleep(60)") -> Iterator[subprocess.Popen[str]]:
    """Another process that has the folder."""
    code = (
        "import os, sys, time\nfrom pathlib import Path\nfrom fasterseg.base.locks import FolderLock\n"
        f"with FolderLock(Path({str(folder)!r})):\n    print('holds', flush=True)\n    {then}"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "holds\n"
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_second_process_is_told_who_has_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with holding(folder) as process:
        with pytest.raises(FolderInUseError) as caught:
            FolderLock(folder)
        message = str(caught.value)
        host = platform.node()
        assert message.startswith(f"{folder} is in use: process {process.pid} on {host} writes there since 20"), message
        assert "python" in message and "-c" in message and "choose another --out" in message
        process.kill()
        process.wait()
        FolderLock(folder).release()


def test_it_is_free_again_after_the_block(tmp_path: Path) -> None:
    for _ in range(2):
        with FolderLock(tmp_path):
            assert json.loads((tmp_path / LOCK_NAME).read_text())["pid"] == os.getpid()
            with pytest.raises(FolderInUseError, match=f"process {os.getpid()} "):
                FolderLock(tmp_path)


def test_children_of_a_killed_process_do_not_hold_it(tmp_path: Path) -> None:
    with holding(tmp_path, then="print(os.getpid(), flush=True) if os.fork() == 0 else None; time.sleep(5)") as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.kill()
        process.wait()
        os.kill(child, 0)
        FolderLock(tmp_path).release()
        os.kill(child, 9)


def test_a_folder_that_cannot_be_locked_says_so_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import errno
    import fcntl

    def refuse(*_arguments: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with FolderLock(tmp_path):
        pass
    assert f"{tmp_path} cannot be locked (No locks available)" in capsys.readouterr().out


def test_an_unreadable_owner_is_another_process(tmp_path: Path) -> None:
    with holding(tmp_path):
        for text in ("", "[]", "{"):
            (tmp_path / LOCK_NAME).write_text(text)
            with pytest.raises(FolderInUseError, match="another process writes there; wait"):
                FolderLock(tmp_path)
