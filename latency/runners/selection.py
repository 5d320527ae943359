"""The choice of a runner: the one that a target or a command line asks for, or the best one there is, and why.

A command line names runners as NAME, or as NAME:MODE for another way of execution than the usual one.
"""

from collections.abc import Sequence
from typing import NamedTuple, get_args

import torch
from pydantic import ValidationError

from latency.config import AUTO, Mode, RunnerChoice, TargetConfig, find_devices, find_problem
from latency.runners.base import Runner
from latency.runners.onnxruntime import OnnxRuntimeRunner
from latency.runners.openvino import OpenVinoRunner
from latency.runners.pytorch import PyTorchRunner
from latency.runners.tensorrt import TensorRtRunner

RUNNERS: dict[str, type[Runner]] = {
    runner.name: runner for runner in (OnnxRuntimeRunner, OpenVinoRunner, PyTorchRunner, TensorRtRunner)
}
OPTION = "--runner"
# what `auto` tries, the fastest first
_PREFERENCE = ((TensorRtRunner, "cuda"), (PyTorchRunner, "cuda"), (OnnxRuntimeRunner, "cpu"))


class RunnerSelection(NamedTuple):
    """The runner of a target and why it was taken.

    Attributes:
        runner: The runner, ready to prepare networks.
        reason: One sentence for the user.
    """

    runner: Runner
    reason: str


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


def build_runner(target: TargetConfig, *, asked_by: str = "target.runner") -> RunnerSelection:
    """The runner that a target asks for; `auto` takes TensorRT, else PyTorch on a CUDA device, else ONNX Runtime.

    Args:
        target: The target.
        asked_by: The setting or option that names the runner, for messages.

    Raises:
        ValueError: The runtime is not installed, there is no CUDA device to run on, or no runner can do it.
    """
    if target.device == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "target.device is cuda, but PyTorch finds no GPU; set target.device to cpu, or install a PyTorch build "
            "for your GPU (see https://pytorch.org/get-started)"
        )
    if target.runner == AUTO:
        return _choose(target, asked_by)
    runner_class = RUNNERS[target.runner]
    _require_packages(runner_class, asked_by)
    devices = find_devices(target.runner, target.device, precision=target.precision, mode=target.mode, tf32=target.tf32)
    present = [device for device in devices if device != "cuda" or torch.cuda.is_available()]
    if not present:
        raise ValueError(
            f"runner {target.runner} with precision {target.precision}, mode {target.mode} and tf32 {target.tf32} "
            f"needs a CUDA device, but PyTorch finds no GPU; set {asked_by}, or install a PyTorch build for your GPU "
            "(see https://pytorch.org/get-started)"
        )
    return _selection(runner_class, present[0], target, f"asked for by {asked_by}")


def choose_runners(target: TargetConfig, names: Sequence[str]) -> tuple[NamedRunner, ...]:
    """The runners that are named, on the target; without names the runner of the target.

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


def _choose(target: TargetConfig, asked_by: str) -> RunnerSelection:
    """The first preference that is there and can do what is asked for, with what kept the better ones from it."""
    passed_over: list[str] = []
    for runner_class, device in _PREFERENCE:
        obstacle = _obstacle(runner_class, device, target)
        if obstacle is None:
            return _selection(runner_class, device, target, "; ".join([f"{asked_by} is auto", *passed_over]))
        if obstacle not in passed_over:
            passed_over.append(obstacle)
    raise ValueError(f"{asked_by} is auto and no runner can do it: {'; '.join(passed_over)}")


def _obstacle(runner_class: type[Runner], device: str, target: TargetConfig) -> str | None:
    """What keeps a runner from a target, if anything."""
    if target.device not in (AUTO, device):
        return f"target.device is {target.device}"
    if device == "cuda" and not torch.cuda.is_available():
        return "PyTorch finds no GPU"
    missing = runner_class.missing_packages()
    if missing:
        return f"{' and '.join(missing)} not installed for {runner_class.name}"
    return find_problem(runner_class.name, device, precision=target.precision, mode=target.mode, tf32=target.tf32)


def _selection(runner_class: type[Runner], device: str, target: TargetConfig, reason: str) -> RunnerSelection:
    runner = runner_class(
        device=device,
        threads=target.threads,
        precision=target.precision,
        mode=target.mode,
        tf32=target.tf32,
        engine_cache=target.engine_cache,
    )
    mode = "" if runner.mode in ("default", device) else f", {runner.mode}"
    return RunnerSelection(runner, f"{runner.name} on {device}{mode} ({reason})")


def _require_packages(runner_class: type[Runner], asked_by: str) -> None:
    missing = runner_class.missing_packages()
    if not missing:
        return
    installed = [other.name for other in RUNNERS.values() if not other.missing_packages()]
    raise ValueError(
        f"runner {runner_class.name} (asked for by {asked_by}) needs the package{'s' * (len(missing) > 1)} "
        f"{' and '.join(missing)}, which {'are' if len(missing) > 1 else 'is'} not installed; install with "
        f"`{runner_class.install}`, or set {asked_by} to one of {', '.join(installed)}"
    )


def _named_runner(target: TargetConfig, text: str) -> NamedRunner:
    """The runner `NAME` or `NAME:MODE` on the target; `target.mode` holds for `target.runner` only."""
    name, separator, mode = text.partition(":")
    for found, known, what in ((name, RunnerChoice, "runner"), (mode if separator else AUTO, Mode, "mode")):
        if found not in get_args(known):
            names = ", ".join(get_args(known))
            raise ValueError(f"{OPTION} {text}: got '{found}', expected one of the {what}s {names}")
    is_targets = name == target.runner and not mode
    settings = {"runner": name, "mode": target.mode if is_targets else mode or AUTO}
    try:
        asked = TargetConfig.model_validate({**target.model_dump(), **settings})
    except ValidationError as error:
        problems = "; ".join(problem["msg"].removeprefix("Value error, ") for problem in error.errors())
        raise ValueError(f"{OPTION} {text}: {problems}") from error
    runner, reason = build_runner(asked, asked_by=OPTION)
    return NamedRunner(f"{runner.name}:{mode}" if mode else runner.name, runner, reason)
