import errno
import os
import signal
import sys
import time
from pathlib import Path

import pytest
import typer

from fasterseg.base.commandline import run_app


def app_raising(error: Exception | None) -> typer.Typer:
    app = typer.Typer(pretty_exceptions_enable=False)

    @app.command()
    def only() -> None:
        if error is not None:
            raise error

    return app


@pytest.fixture(autouse=True)
def no_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["program"])


@pytest.mark.parametrize("kind", [ValueError, TypeError, FileNotFoundError])
def test_a_users_error_is_its_message_and_exit_code_2(
    kind: type[Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        run_app(app_raising(kind("crop_size_px 500 is not divisible by 32; use 480 or 512")))
    assert exit_info.value.code == 2
    assert capsys.readouterr() == ("", "error: crop_size_px 500 is not divisible by 32; use 480 or 512\n")


def test_our_own_mistakes_keep_their_traceback() -> None:
    with pytest.raises(AssertionError, match="broken invariant"):
        run_app(app_raising(AssertionError("broken invariant")))


def test_success_is_exit_code_0() -> None:
    with pytest.raises(SystemExit) as exit_info:
        run_app(app_raising(None))
    assert not exit_info.value.code


@pytest.mark.parametrize(("variable", "number"), [("RANK", "3"), ("LOCAL_RANK", "1")])
def test_a_process_that_is_not_the_first_gives_its_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str, number: str
) -> None:
    monkeypatch.setenv(variable, number)
    with pytest.raises(SystemExit):
        run_app(app_raising(ValueError("a file is missing")))
    assert capsys.readouterr().err == f"process {number}: error: a file is missing\n"


def test_what_the_system_refuses_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    errors = [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "last.pt")),
        PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(tmp_path / "last.pt")),
        FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(tmp_path / "last.pt")),
    ]
    for error in errors:
        with pytest.raises(SystemExit) as exit_info:
            run_app(app_raising(error))
        assert exit_info.value.code == 2
        said = capsys.readouterr().err
        assert said.startswith(f"error: {tmp_path / 'last.pt'}: {error.strerror}; ") and said.count("\n") == 1


def test_memory_that_is_used_up_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for error in (MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 4 bytes\nmore")):
        with pytest.raises(SystemExit) as exit_info:
            run_app(app_raising(error))
        assert exit_info.value.code == 2
        said = capsys.readouterr().err
        assert said.startswith("error: out of memory: ") and said.count("\n") == 1
    with pytest.raises(RuntimeError, match="another mistake"):
        run_app(app_raising(RuntimeError("another mistake")))


def test_a_signal_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    app = typer.Typer(pretty_exceptions_enable=False)

    @app.command()
    def only() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    with pytest.raises(SystemExit) as exit_info:
        run_app(app)
    assert exit_info.value.code == 143
    assert "stopped by SIGTERM" in capsys.readouterr().err
