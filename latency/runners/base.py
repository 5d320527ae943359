"""What every runner has in common: a runner prepares networks for one runtime, a session runs one of them.

One file per runtime, each with a `Runner` and a `Session` of this shape; heavy imports happen inside them, so that
an absent runtime costs nothing until it is asked for.
"""

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from fasterseg.engine.devices import processor_name

Array = npt.NDArray[np.float32]
Shape = tuple[int, int, int, int]
_INPUT_SEED = 0


@dataclass(frozen=True)
class Conditions:
    """Under what a time was measured, as far as the runner decides it.

    Attributes:
        runner: Name of the runner.
        device: `cpu` or `cuda`.
        device_name: The processor's name.
        threads: CPU threads of one inference.
        precision: Number format.
        versions: Versions of what takes part, by package.
    """

    runner: str
    device: str
    device_name: str
    threads: int
    precision: str
    versions: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """The conditions as JSON-ready plain data."""
        return asdict(self)


class TimedCall(NamedTuple):
    """One run of a session.

    Attributes:
        duration_ms: How long it took.
        undisturbed: Whether the operating system left the process its cores throughout the run.
    """

    duration_ms: float
    undisturbed: bool


class Session(ABC):
    """One network, ready to run at one input shape.

    Attributes:
        input_shape: The (N, C, H, W) of its input.
    """

    input_shape: Shape

    @abstractmethod
    def run(self, image: Array) -> Array:
        """Runs the network on float32 (N, C, H, W) of `input_shape`; returns its output.

        Raises:
            ValueError: The input has another shape.
        """

    @abstractmethod
    def time_calls(self, count: int) -> list[TimedCall]:
        """Times each of `count` runs on a fixed random input; copying it in and out is not included."""

    def check_input(self, image: Array) -> Array:
        """The image as contiguous float32, after its shape was compared with the session's.

        Raises:
            ValueError: The input has another shape.
        """
        if tuple(image.shape) != self.input_shape:
            raise ValueError(f"input has shape {tuple(image.shape)}, this session was prepared for {self.input_shape}")
        return np.ascontiguousarray(image, dtype=np.float32)

    def random_input(self) -> Array:
        """The standard normal input that times are measured on."""
        return np.random.default_rng(_INPUT_SEED).standard_normal(self.input_shape, dtype=np.float32)


class Runner(ABC):
    """Prepares networks for one runtime.

    Args:
        device: `cpu` or `cuda`.
        threads: CPU threads of one inference.
        precision: Number format.
    """

    name: ClassVar[str]
    package: ClassVar[str]

    def __init__(self, *, device: str = "cpu", threads: int = 1, precision: str = "fp32") -> None:
        self.device = device
        self.threads = threads
        self.precision = precision

    @abstractmethod
    def prepare(self, module: nn.Module, input_shape: Shape) -> Session:
        """A session of the module in evaluation mode; the module takes and returns one tensor and stays as it was."""

    @abstractmethod
    def from_onnx_path(self, path: Path) -> Session:
        """A session of an exported ONNX file of one input and one output.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The runtime cannot run ONNX files, or not this one.
        """

    @abstractmethod
    def version(self) -> str:
        """The runtime's version."""

    def conditions(self) -> Conditions:
        """Under what this runner's sessions are timed."""
        name = torch.cuda.get_device_name() if self.device == "cuda" else processor_name()
        versions = {"torch": str(torch.__version__), self.package: self.version()}
        return Conditions(self.name, self.device, name, self.threads, self.precision, versions)


def time_on_host(call: Callable[[], object], count: int) -> list[TimedCall]:
    """Times each of `count` synchronous calls by the host's clock.

    A call in whose course the process lost a core to another one says more about the other process than about the
    network; the count of involuntary context switches tells these calls apart.
    """
    clock = time.perf_counter_ns
    calls = []
    for _ in range(count):
        switches = involuntary_switches()
        start = clock()
        call()
        end = clock()
        calls.append(TimedCall((end - start) / 1e6, involuntary_switches() == switches))
    return calls


def involuntary_switches() -> int:
    """How often a thread of this process lost its core before it gave it up; 0 where the system does not count."""
    if sys.platform == "win32":
        return 0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def require_file(path: Path) -> Path:
    """The path, if there is a file.

    Raises:
        FileNotFoundError: There is none.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no ONNX file at {path}; `fasterseg export` writes one")
    return path
