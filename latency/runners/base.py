"""What every runner has in common: a runner prepares networks for one runtime, a session runs one of them.

There is one file per runtime, each with a `Runner` and a `Session` of this shape. Heavy imports happen inside them, so
that an absent runtime costs nothing until it is asked for. The steps to add a runner stand in `latency.runners`.
"""

import importlib.util
import statistics
import sys
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from fasterseg.base.machine import processor_name
from latency.config import AUTO, SUPPORT, usual_mode

Array = npt.NDArray[np.float32]
Shape = tuple[int, int, int, int]
PROFILED_RUNS = 10
_INPUT_SEED = 0
_USUAL_PRECISION, _USUAL_THREADS = "fp32", 1


@dataclass(frozen=True)
class Conditions:
    """Under what a time was measured, as far as the runner decides it.

    Attributes:
        runner: Name of the runner.
        device: `cpu`, `cuda`, `gpu` or `npu`.
        device_name: The processor's name.
        threads: CPU threads of one inference.
        precision: Number format.
        versions: Versions of what takes part, by package.
        mode: Way of execution.
        tf32: Whether float32 convolutions may round their inputs to TF32.
        clocks_mhz: The clocks of a CUDA device under load, read as soon as the timed calls end, where they can be read;
            they change by themselves, so they take no part in comparisons.
    """

    runner: str
    device: str
    device_name: str
    threads: int
    precision: str
    versions: dict[str, str]
    mode: str = "default"
    tf32: bool = False
    clocks_mhz: dict[str, int] = field(default_factory=dict, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """The conditions as JSON-ready plain data."""
        return asdict(self)

    @property
    def setup_name(self) -> str:
        """A name for result files, so that a run on something else does not replace them.

        The runner, and behind it what is not the usual of device, mode, precision, TF32 and threads: such as
        `onnxruntime`, or `pytorch_cuda_eager_fp16`. Usual are one thread of a CPU (or the runner's first device, where
        it runs on no CPU), the runner's first mode there, and FP32.
        """
        devices = tuple(SUPPORT[self.runner])
        usual_device = "cpu" if "cpu" in devices else devices[0]
        parts = [
            self.runner,
            "" if self.device == usual_device else self.device,
            "" if self.mode == usual_mode(self.runner, self.device) else self.mode,
            "" if self.precision == _USUAL_PRECISION else self.precision,
            "tf32" if self.tf32 else "",
            "" if self.threads == _USUAL_THREADS else f"{self.threads}threads",
        ]
        return "_".join(part for part in parts if part)


class TimedCall(NamedTuple):
    """One run of a session.

    Attributes:
        duration_ms: How long it took.
        undisturbed: Whether the operating system left the process its cores throughout the run.
    """

    duration_ms: float
    undisturbed: bool


class LayerTime(NamedTuple):
    """The time of one layer of a compiled network.

    Attributes:
        name: The runtime's name of the layer; of several layers that it joined, if it joined them.
        kind: The runtime's name of the operation.
        ms: Median over the profiled runs, in milliseconds.
    """

    name: str
    kind: str
    ms: float


class Session(ABC):
    """One network, ready to run at one input shape.

    A session is a context manager; leaving it, or `close`, frees what it holds on its device.

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

    def layer_times(self) -> tuple[LayerTime, ...]:
        """The time of each layer in the order of execution, over `PROFILED_RUNS` runs on the fixed random input.

        Profiling slows a network down, so these times sum to more than `time_calls` measures. `time_calls` itself runs
        without the profiler.

        Raises:
            ValueError: The runtime tells no times of layers, or not on this device.
        """
        raise ValueError(f"{type(self).__name__} tells no times of layers; set target.runner to another runner")

    def close(self) -> None:  # noqa: B027 - most runtimes free their memory with their objects
        """Frees what the session holds on its device; it cannot run afterwards."""

    def __enter__(self) -> Self:
        """The session itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the session."""
        self.close()

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
        device: `cpu`, `cuda`, `gpu` or `npu`; see `latency.config.SUPPORT` for what a runner has.
        threads: CPU threads of one inference.
        precision: Number format.
        mode: Way of execution; `auto` for the runner's usual one.
        tf32: Whether float32 convolutions may round their inputs to TF32.
        engine_cache: Folder for compiled networks, for a runtime that takes long to compile.

    Attributes:
        name: What the runner is called in experiment files.
        package: What has to be importable.
        install: The command that installs it.
        more_packages: What else has to be importable.
        runs_files: Whether it can run exported ONNX files.
    """

    name: ClassVar[str]
    package: ClassVar[str]
    install: ClassVar[str]
    more_packages: ClassVar[tuple[str, ...]] = ()
    runs_files: ClassVar[bool] = True

    def __init__(
        self,
        *,
        device: str = "cpu",
        threads: int = 1,
        precision: str = "fp32",
        mode: str = AUTO,
        tf32: bool = False,
        engine_cache: Path | None = None,
    ) -> None:
        self.device = device
        self.threads = threads
        self.precision = precision
        self.mode = usual_mode(self.name, device) if mode == AUTO else mode
        self.tf32 = tf32
        self.engine_cache = engine_cache

    @classmethod
    def missing_packages(cls) -> tuple[str, ...]:
        """The packages that this runner needs and that are not installed."""
        return tuple(name for name in (cls.package, *cls.more_packages) if importlib.util.find_spec(name) is None)

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

    def device_name(self) -> str:
        """The processor's name."""
        return torch.cuda.get_device_name() if self.device == "cuda" else processor_name()

    def conditions(self) -> Conditions:
        """Under what this runner's sessions are timed; clocks are known once they have been."""
        versions = {"torch": str(torch.__version__), self.package: self.version()}
        if self.device == "cuda":
            versions["cuda"] = str(torch.version.cuda)
        return Conditions(
            runner=self.name,
            device=self.device,
            device_name=self.device_name(),
            threads=self.threads,
            precision=self.precision,
            versions=versions,
            mode=self.mode,
            tf32=self.tf32,
        )


def time_on_host(call: Callable[[], object], count: int) -> list[TimedCall]:
    """Times each of `count` synchronous calls by the host's clock.

    A call during which the process lost a core to another process says more about that process than about the network.
    The count of involuntary context switches tells these calls apart.
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


def median_layer_times(runs: Iterable[Iterable[LayerTime]]) -> tuple[LayerTime, ...]:
    """For each layer the median over several runs, in the order of the first appearance.

    Layers are told apart by name; one that runs twice in a run counts with the sum of both.
    """
    kinds: dict[str, str] = {}
    times: dict[str, list[float]] = defaultdict(list)
    for run in runs:
        total: dict[str, float] = defaultdict(float)
        for layer in run:
            kinds.setdefault(layer.name, layer.kind)
            total[layer.name] += layer.ms
        for name, ms in total.items():
            times[name].append(ms)
    return tuple(LayerTime(name, kind, statistics.median(times[name])) for name, kind in kinds.items())
