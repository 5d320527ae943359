"""A stand-in for a GPU and for pycuda, for machines without one; `tensorrt_double` works on it.

Memory is at addresses that only the double can read, streams do their work when they are synchronised and not before,
and every call needs a current context. What is alive is counted.
"""

import types
import weakref
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# by their handles, which is all that TensorRT gets of a stream
STREAMS: "weakref.WeakValueDictionary[int, Any]" = weakref.WeakValueDictionary()


@dataclass
class Machine:
    """The state of the doubled GPU, and what shall go wrong on it.

    Attributes:
        version: TensorRT's version.
        faults: Names of steps that fail.
        alive: How many objects of each kind exist.
        events: What happened, in order.
        problems: Misuse found where no exception can be raised.
        used: Names of TensorRT that were used: (class, attribute).
        tf32_flags: TF32 as it stood at each build.
    """

    version: str = ""
    faults: set[str] = field(default_factory=set)
    alive: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    events: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    used: set[tuple[str, str]] = field(default_factory=set)
    tf32_flags: list[bool] = field(default_factory=list)
    timing_blobs: list[bytes] = field(default_factory=list)
    memory: dict[int, bytearray] = field(default_factory=dict)
    context_stack: list[object] = field(default_factory=list)
    clock_ms: float = 0.0
    torch_ready: bool = False
    synchronizations: int = 0

    def count(self, event: str) -> int:
        """How often something happened."""
        return self.events.count(event)

    def leftovers(self) -> dict[str, int]:
        """What is still alive, by kind."""
        return {kind: number for kind, number in self.alive.items() if number}

    def require_context(self) -> None:
        """Every call of pycuda needs a current context."""
        if not self.context_stack:
            raise AssertionError("no CUDA context is current")


def build_pycuda_driver(machine: Machine) -> types.ModuleType:  # noqa: PLR0915 - one class after another
    """The part of `pycuda.driver` that the runner needs."""

    class CudaMemoryError(Exception):
        pass

    class Context:
        def push(self) -> None:
            machine.context_stack.append(self)

        @staticmethod
        def pop() -> None:
            machine.context_stack.pop()

    class Device:
        def __init__(self, index: int) -> None:
            assert "init" in machine.events, "pycuda.driver.init() comes first"

        def retain_primary_context(self) -> Context:
            machine.events.append("retain")
            return Context()

    class Allocation:
        """Device memory, at an address that only the double can read."""

        def __init__(self, size: int) -> None:
            machine.require_context()
            if "mem_alloc" in machine.faults and machine.alive["device memory"]:
                raise CudaMemoryError("cuMemAlloc failed: out of memory")
            self._pointer = 0x1000 * (len(machine.events) + 1)
            machine.events.append("mem_alloc")
            machine.memory[self._pointer] = bytearray(size)
            machine.alive["device memory"] += 1

        def __int__(self) -> int:
            return self._pointer

        def free(self) -> None:
            machine.require_context()
            del machine.memory[self._pointer]
            machine.alive["device memory"] -= 1

    class HostAllocation:
        """Page-locked memory; arrays on it have it as their base."""

        def __init__(self, shape: tuple[int, ...]) -> None:
            self._array = np.full(shape, np.nan, dtype=np.float32)
            self.__array_interface__ = self._array.__array_interface__
            machine.alive["host memory"] += 1

        def free(self) -> None:
            machine.require_context()
            machine.alive["host memory"] -= 1

    class Stream:
        def __init__(self) -> None:
            machine.require_context()
            machine.alive["stream"] += 1
            self.queue: list[Callable[[], object]] = []
            self.handle = id(self)
            STREAMS[self.handle] = self

        def synchronize(self) -> None:
            machine.require_context()
            machine.synchronizations += 1
            for work in self.queue:
                work()
            self.queue.clear()

        def __del__(self) -> None:
            machine.alive["stream"] -= 1
            if not machine.context_stack:
                machine.problems.append("a stream was destroyed without a current context")

    class Event:
        def __init__(self) -> None:
            self._time_ms: float | None = None

        def record(self, stream: Stream) -> None:
            def happen() -> None:
                self._time_ms = machine.clock_ms

            stream.queue.append(happen)

        def time_since(self, other: "Event") -> float:
            assert self._time_ms is not None and other._time_ms is not None, "the events have not happened yet"
            return self._time_ms - other._time_ms

    def init() -> None:
        assert machine.torch_ready, "PyTorch has to be initialised before pycuda"
        machine.events.append("init")

    def pagelocked_empty(shape: tuple[int, ...], dtype: type) -> np.ndarray:
        machine.require_context()
        assert dtype is np.float32
        return np.asarray(HostAllocation(shape))

    def memcpy_htod_async(pointer: int, array: np.ndarray, stream: Stream) -> None:
        machine.require_context()
        stream.queue.append(lambda: machine.memory[pointer].__setitem__(slice(None), array.tobytes()))

    def memcpy_dtoh_async(array: np.ndarray, pointer: int, stream: Stream) -> None:
        machine.require_context()
        stream.queue.append(lambda: array.__setitem__(..., read_array(machine, pointer, array.shape)))

    driver = types.ModuleType("pycuda.driver")
    vars(driver).update(
        MemoryError=CudaMemoryError,
        Device=Device,
        Stream=Stream,
        Event=Event,
        init=init,
        mem_alloc=Allocation,
        pagelocked_empty=pagelocked_empty,
        memcpy_htod_async=memcpy_htod_async,
        memcpy_dtoh_async=memcpy_dtoh_async,
    )
    return driver


def read_array(machine: Machine, pointer: int, shape: Any) -> np.ndarray:
    """What is in the device's memory at an address."""
    return np.frombuffer(bytes(machine.memory[pointer]), dtype=np.float32).reshape(shape)
