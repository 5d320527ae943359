"""What each runner can do: on which device, in which number formats, by which ways of execution.

The table stands apart from the runners, so that an experiment file is checked without importing a runtime.
"""

from collections.abc import Mapping
from typing import NamedTuple

AUTO = "auto"


class Support(NamedTuple):
    """What a runner can do on one device.

    Attributes:
        precisions: Number formats of the network's arithmetic.
        modes: Ways of execution; `auto` takes the first.
    """

    precisions: tuple[str, ...]
    modes: tuple[str, ...] = ("default",)


SUPPORT: Mapping[str, Mapping[str, Support]] = {
    "tensorrt": {"cuda": Support(("fp32", "fp16"))},
    "pytorch": {
        "cuda": Support(("fp32", "fp16", "bf16"), ("cuda_graph", "eager", "channels_last", "compile")),
        "cpu": Support(("fp32", "bf16"), ("eager", "channels_last", "compile")),
    },
    # the modes of ONNX Runtime are its execution providers
    "onnxruntime": {
        "cpu": Support(("fp32",), ("cpu",)),
        "cuda": Support(("fp32", "fp16"), ("cuda", "tensorrt")),
    },
    "openvino": {
        "cpu": Support(("fp32", "fp16", "bf16")),
        "gpu": Support(("fp32", "fp16")),
        "npu": Support(("fp16",)),
    },
}


def usual_mode(runner: str, device: str) -> str:
    """The mode that `auto` stands for."""
    return SUPPORT[runner][device].modes[0]


def find_problem(runner: str, device: str, *, precision: str, mode: str, tf32: bool) -> str | None:
    """Why a runner cannot do what is asked of it, with what it can do instead; None if it can.

    Args:
        runner: Name of the runner.
        device: `cpu`, `cuda`, `gpu` or `npu`.
        precision: Number format.
        mode: Way of execution, or `auto`.
        tf32: Whether float32 convolutions may round their inputs to TF32.
    """
    devices = SUPPORT[runner]
    if device not in devices:
        return f"runner {runner} has no device {device}; use {' or '.join(devices)}"
    precisions, modes = devices[device]
    if precision not in precisions:
        return f"runner {runner} has no precision {precision} on {device}; use {' or '.join(precisions)}"
    if mode not in (AUTO, *modes):
        return f"runner {runner} has no mode {mode} on {device}; use {' or '.join((AUTO, *modes))}"
    if tf32 and device != "cuda":
        return f"tf32 is a format of CUDA devices, not of {device}; set tf32 to false"
    if (runner, mode) == ("onnxruntime", "tensorrt") and precision == "fp32" and not tf32:
        return "ONNX Runtime's TensorRT provider cannot switch TF32 off; set tf32 to true, or use runner tensorrt"
    return None


def find_devices(runner: str, device: str, *, precision: str, mode: str, tf32: bool) -> tuple[str, ...]:
    """The devices on which a runner can do what is asked of it, the usual one first.

    Raises:
        ValueError: There is none; the message says why.
    """
    candidates = tuple(SUPPORT[runner]) if device == AUTO else (device,)
    problems = {
        candidate: find_problem(runner, candidate, precision=precision, mode=mode, tf32=tf32)
        for candidate in candidates
    }
    fitting = tuple(candidate for candidate, problem in problems.items() if problem is None)
    if not fitting:
        raise ValueError("; ".join(problem for problem in problems.values() if problem is not None))
    return fitting
