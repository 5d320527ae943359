"""The runners by name, and the choice of one for a target."""

import importlib.util
from typing import NamedTuple

import torch

from latency.config import TargetConfig
from latency.runners.base import Array, Conditions, Runner, Session, Shape
from latency.runners.onnxruntime import OnnxRuntimeRunner
from latency.runners.openvino import OpenVinoRunner
from latency.runners.pytorch import PyTorchRunner

__all__ = ["RUNNERS", "Array", "Conditions", "Runner", "RunnerSelection", "Session", "Shape", "build_runner"]

RUNNERS: dict[str, type[Runner]] = {
    runner.name: runner for runner in (OnnxRuntimeRunner, OpenVinoRunner, PyTorchRunner)
}


class RunnerSelection(NamedTuple):
    """The runner of a target and why it was taken.

    Attributes:
        runner: The runner, ready to prepare networks.
        reason: One sentence for the user.
    """

    runner: Runner
    reason: str


def build_runner(target: TargetConfig) -> RunnerSelection:
    """The runner that a target asks for; `auto` takes PyTorch on a GPU and ONNX Runtime on a CPU.

    Raises:
        ValueError: The runtime is not installed, or there is no GPU to run on.
    """
    has_cuda = torch.cuda.is_available()
    if target.device == "cuda" and not has_cuda:
        raise ValueError(
            "target.device is cuda, but PyTorch finds no GPU; set target.device to cpu, or install a PyTorch build "
            "for your GPU (see https://pytorch.org/get-started)"
        )
    gpu_runner = target.runner in ("auto", PyTorchRunner.name)
    device = "cuda" if has_cuda and gpu_runner and target.device != "cpu" else "cpu"
    name: str = target.runner
    reason = "asked for by target.runner"
    if target.runner == "auto":
        name = PyTorchRunner.name if device == "cuda" else OnnxRuntimeRunner.name
        found = "PyTorch finds a GPU" if has_cuda else "PyTorch finds no GPU"
        reason = "target.runner is auto and " + (found if target.device == "auto" else f"target.device is {device}")
    runner_class = RUNNERS[name]
    if importlib.util.find_spec(runner_class.package) is None:
        installed = [other.name for other in RUNNERS.values() if importlib.util.find_spec(other.package) is not None]
        raise ValueError(
            f"runner {name} ({reason}) needs the package {runner_class.package}, which is not installed; install it "
            f"with `pip install {runner_class.package}`, or set target.runner to one of {', '.join(installed)}"
        )
    runner = runner_class(device=device, threads=target.threads, precision=target.precision)
    return RunnerSelection(runner, f"{name} on {device} ({reason})")
