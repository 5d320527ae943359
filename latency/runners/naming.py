"""Runners as a command line names them: NAME, or NAME:MODE for another way of execution than the usual one."""

from collections.abc import Sequence
from typing import NamedTuple, get_args

from pydantic import ValidationError

from latency.config import Mode, RunnerChoice, TargetConfig
from latency.runners.base import Runner
from latency.runners.selection import build_runner

OPTION = "--runner"


class NamedRunner(NamedTuple):
    """A runner and what results call it.

    Attributes:
        name: Its name, and its mode where one was asked for.
        runner: The runner.
        reason: Which one it is and why it was taken, for the user.
    """

    name: str
    runner: Runner
    reason: str


def choose_runners(target: TargetConfig, names: Sequence[str]) -> tuple[NamedRunner, ...]:
    """The runners that are named, on the target; without names the target's own.

    Raises:
        ValueError: A name or mode is unknown, a runner cannot do what the target asks for or is named twice, or its
            runtime is absent.
    """
    if not names:
        runner, reason = build_runner(target)
        return (NamedRunner(runner.name, runner, reason),)
    chosen = tuple(_named_runner(target, text) for text in names)
    called = [runner.name for runner in chosen]
    twice = sorted({name for name in called if called.count(name) > 1})
    if twice:
        raise ValueError(
            f"{' '.join(f'{OPTION} {text}' for text in names)}: {' and '.join(twice)} would be timed twice; name every "
            "runner once"
        )
    return chosen


def _named_runner(target: TargetConfig, text: str) -> NamedRunner:
    """The runner `NAME` or `NAME:MODE` on the target; the target's own mode stays with its own runner."""
    name, separator, mode = text.partition(":")
    for found, known, what in ((name, RunnerChoice, "runner"), (mode if separator else "auto", Mode, "mode")):
        if found not in get_args(known):
            names = ", ".join(get_args(known))
            raise ValueError(f"{OPTION} {text}: got '{found}', expected one of the {what}s {names}")
    own = name == target.runner and not mode
    settings = {"runner": name, "mode": target.mode if own else mode or "auto"}
    try:
        asked = TargetConfig.model_validate({**target.model_dump(), **settings})
    except ValidationError as error:
        problems = "; ".join(problem["msg"].removeprefix("Value error, ") for problem in error.errors())
        raise ValueError(f"{OPTION} {text}: {problems}") from error
    runner, reason = build_runner(asked, asked_by=OPTION)
    return NamedRunner(f"{runner.name}:{mode}" if mode else runner.name, runner, reason)
