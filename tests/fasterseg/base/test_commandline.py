import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fasterseg.base.commandline import Program, run_app
from fasterseg.base.console import format_duration
from fasterseg.base.yamlfile import read_yaml

Run = Callable[..., int | str | None]


def users_mistake() -> None:
    read_yaml(Path("absent\x1b[31m.yaml"))


def own_mistake() -> None:
    format_duration("long")  # type: ignore[arg-type]


def interrupted() -> None:
    raise KeyboardInterrupt


def stopped() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(5)


def nothing() -> None:
    pass


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a program whose command does what it is called."""

    def run(*arguments: str) -> int | str | None:
        app = Program("A program.")
        for command in (users_mistake, own_mistake, interrupted, stopped, nothing):
            app.command(command.__name__)(command)
        monkeypatch.setattr(sys, "argv", ["program", *arguments])
        with pytest.raises(SystemExit) as end:
            run_app(app)
        return end.value.code

    return run


def test_a_users_mistake_is_its_message_and_exit_code_2(program: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert program("users_mistake") == 2
    assert capsys.readouterr() == ("", "error: no file at absent\\x1b[31m.yaml\n"), "no escape reaches the terminal"


def test_our_own_mistake_is_a_traceback_and_what_to_report(program: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert program("own_mistake") == 1
    shown = capsys.readouterr().err
    assert "Traceback (most recent call last)" in shown and "in format_duration" in shown
    last = shown.splitlines()[-1]
    assert last.startswith("error: this is a mistake of the toolkit, not of yours; please report the lines above")
    assert "fasterseg 0." in last and "Python 3." in last and last.endswith("program own_mistake")


@pytest.mark.parametrize("arguments", [("--debug", "users_mistake"), ("users_mistake", "--debug")])
def test_debug_shows_the_traceback_of_a_users_mistake_too(
    program: Run, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    assert program(*arguments) == 2
    shown = capsys.readouterr().err
    assert "in read_yaml" in shown and shown.splitlines()[-1].startswith("error: no file at absent")


def test_an_interruption_says_how_to_go_on(program: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert program("interrupted") == 130
    assert capsys.readouterr().err == "interrupted; the same command goes on where a stage was cut off\n"


def test_a_signal_says_how_to_go_on(program: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert program("stopped") == 143
    assert capsys.readouterr().err.startswith("stopped by SIGTERM; every file that is there is whole")


def test_success_is_exit_code_0(program: Run) -> None:
    assert not program("nothing")


def test_help_names_the_debug_flag(program: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert not program("--help")
    assert "--debug" in capsys.readouterr().out


@pytest.mark.parametrize(("variable", "number"), [("RANK", "3"), ("LOCAL_RANK", "1")])
def test_a_process_that_is_not_the_first_gives_its_number(
    program: Run,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variable: str,
    number: str,
) -> None:
    monkeypatch.setenv(variable, number)
    assert program("users_mistake") == 2
    assert capsys.readouterr().err.startswith(f"process {number}: error: no file at ")
