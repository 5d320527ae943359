"""Runs independent parts of a forward pass, and of its backward pass, on parallel CPU threads.

The cells of one layer need nothing of each other, and most of their operations are too small for two cores to share.
Here each worker thread takes whole cells instead, with its share of the cores. Results do not depend on which thread
is faster: every part has its own weights, and the gradients of inputs that parts share are added up in a fixed order.
"""

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeVar

import torch

Tensors = tuple[torch.Tensor, ...]
Result = TypeVar("Result")

# a layer has three cells, and the one of stride 16 is as much work as the other two
WORKERS = 2

# CPU threads that the parts share while the thread that runs the pass uses one; 0: the parts have none of their own
_LENT: ContextVar[int] = ContextVar("_LENT", default=0)


class Part(NamedTuple):
    """A part of a forward pass.

    Attributes:
        run: Maps tensors to tensors; uses no weights that another part of the same call uses.
        inputs: Its arguments.
    """

    run: Callable[..., Tensors]
    inputs: Tensors


@contextmanager
def threads_for_parts() -> Iterator[None]:
    """Lends the CPU threads of this thread's operations to parts while the block runs.

    Between its parts a pass computes little. A thread that OpenMP wakes for that stays active for a while and takes
    time from the parts: a tenth of an architecture step on two cores. With more cores nothing is lent, because stem,
    heads and losses need the threads.
    """
    threads = torch.get_num_threads()
    if threads // WORKERS != 1:
        yield
        return
    token = _LENT.set(threads)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        _LENT.reset(token)


def run_side_by_side(parts: Sequence[Part]) -> list[Tensors]:
    """The outputs of each part, differentiable in their inputs and in the weights that they use.

    Runs one part after the other where threads have nothing to gain (on a GPU, with one CPU thread, with one part) and
    under autocast, whose state belongs to a thread.

    Args:
        parts: What to run, the longest first.
    """
    inputs = [tensor for part in parts for tensor in part.inputs]
    if len(parts) == 1 or _threads() < WORKERS or torch.is_autocast_enabled("cpu"):
        return [part.run(*part.inputs) for part in parts]
    # the gradients of weights hang on the node's own, which there is only where an input asks for one
    lost = torch.is_grad_enabled() and not any(tensor.requires_grad for tensor in inputs)
    if lost or any(tensor.device.type != "cpu" for tensor in inputs):
        return [part.run(*part.inputs) for part in parts]
    if not torch.is_grad_enabled():
        return _in_threads([functools.partial(part.run, *part.inputs) for part in parts], gradients=False)
    outputs = iter(_SideBySide.apply(graphs := _Graphs(parts), *inputs))  # type: ignore[no-untyped-call]
    return [tuple(next(outputs) for _ in range(count)) for count in graphs.output_counts]


class _Graphs:
    """The parts' own graphs between their inputs and outputs, cut off from the graph around them."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = parts
        self.inputs: list[list[torch.Tensor]] = []
        self.outputs: list[Tensors] = []
        self.output_counts: list[int] = []

    def forward(self) -> Tensors:
        self.inputs = [
            [each.detach().requires_grad_(each.requires_grad) for each in part.inputs] for part in self.parts
        ]
        self.outputs = _in_threads(
            [functools.partial(part.run, *inputs) for part, inputs in zip(self.parts, self.inputs, strict=True)],
            gradients=True,
        )
        self.output_counts = [len(outputs) for outputs in self.outputs]
        return tuple(output.detach() for outputs in self.outputs for output in outputs)

    def backward(self, gradients: Sequence[torch.Tensor]) -> list[torch.Tensor | None]:
        remaining = iter(gradients)
        runs = [
            functools.partial(torch.autograd.backward, outputs, [next(remaining) for _ in outputs])
            for outputs in self.outputs
        ]
        _in_threads(runs, gradients=True)
        self.outputs = []
        return [each.grad for inputs in self.inputs for each in inputs]


class _SideBySide(torch.autograd.Function):
    """One node of the outer graph for all parts."""

    @staticmethod
    def forward(ctx: Any, graphs: _Graphs, *inputs: torch.Tensor) -> Tensors:  # noqa: ARG004 - they make the node
        ctx.graphs = graphs
        return graphs.forward()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return None, *ctx.graphs.backward(gradients)


def _in_threads(runs: Sequence[Callable[[], Result]], *, gradients: bool) -> list[Result]:
    """The results of all calls, in order."""
    inference = torch.is_inference_mode_enabled()

    def in_mode(run: Callable[[], Result]) -> Result:
        # PyTorch keeps these modes for each thread
        with torch.inference_mode(inference), torch.set_grad_enabled(gradients):
            return run()

    pool = _pool(_threads())
    futures = [pool.submit(in_mode, run) for run in runs]
    return [future.result() for future in futures]


def _threads() -> int:
    """The CPU threads that there are for parts."""
    return _LENT.get() or torch.get_num_threads()


@functools.lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    """Workers that share the CPU threads of PyTorch's operations between them."""
    started, own = threading.Barrier(WORKERS), torch.get_num_threads()

    def start() -> None:
        # a thread takes over the process's number when it first asks for its own: that has to be over
        torch.get_num_threads()
        torch.set_num_threads(threads // WORKERS)
        started.wait()

    pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="part", initializer=start)
    for future in [pool.submit(int) for _ in range(WORKERS)]:
        future.result()
    # part of the setting belongs to the process, so this thread asks for its own again
    torch.set_num_threads(own)
    return pool
