"""Names of result files by what was measured on, so that a run on something else does not replace them."""

import hashlib
from collections.abc import Sequence
from typing import Protocol

from latency.support import SUPPORT, usual_mode

_USUAL_PRECISION, _USUAL_THREADS = "fp32", 1
_LONGEST = 80
_DIGITS = 8


class Setup(Protocol):
    """What a time was measured on: a table's target, or a measurement's conditions."""

    @property
    def runner(self) -> str:
        """Name of the runner."""

    @property
    def device(self) -> str:
        """Where it runs."""

    @property
    def mode(self) -> str:
        """Way of execution."""

    @property
    def precision(self) -> str:
        """Number format."""

    @property
    def tf32(self) -> bool:
        """Whether float32 convolutions may round their inputs to TF32."""

    @property
    def threads(self) -> int:
        """CPU threads."""


def setup_name(setup: Setup) -> str:
    """The runner, and behind it what is not the usual: device, mode, precision, TF32, threads.

    Such as `onnxruntime`, or `pytorch_cuda_eager_fp16`; usual are one thread of a CPU (or the runner's first device,
    where it runs on no CPU), the runner's first mode there, and FP32.
    """
    devices = tuple(SUPPORT[setup.runner])
    usual_device = "cpu" if "cpu" in devices else devices[0]
    parts = [
        setup.runner,
        "" if setup.device == usual_device else setup.device,
        "" if setup.mode == usual_mode(setup.runner, setup.device) else setup.mode,
        "" if setup.precision == _USUAL_PRECISION else setup.precision,
        "tf32" if setup.tf32 else "",
        "" if setup.threads == _USUAL_THREADS else f"{setup.threads}threads",
    ]
    return "_".join(part for part in parts if part)


def joined_names(names: Sequence[str]) -> str:
    """Names as one, each once: joined by `+`, or their count and a digest of them where that would be too long."""
    each_once = tuple(dict.fromkeys(names))
    joined = "+".join(each_once)
    if len(joined) <= _LONGEST:
        return joined
    return f"{len(each_once)}_{hashlib.sha256(joined.encode()).hexdigest()[:_DIGITS]}"
