"""What `benchmarks.supernet_step` measures of its sides besides time: agreement, convolutions and memory."""

from collections.abc import Callable, Sequence

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.convolutions import ConvolutionCount
from benchmarks.supernet_sides import PRETRAIN_PASSES, FastSide, ReferenceSide, Side, Workload
from fasterseg.engine.memory import peak_memory_bytes
from search.steps import SEARCH_PASSES

PARTS: dict[str, Callable[[Side], torch.Tensor]] = {
    "architecture": lambda side: side.architecture_gradients(),
    "weights": lambda side: side.weights_gradients(SEARCH_PASSES),
    "pretraining": lambda side: side.weights_gradients(PRETRAIN_PASSES),
}


def relative_differences(fast: Side, reference: Side, *, parts: Sequence[str] = tuple(PARTS)) -> dict[str, float]:
    """How far losses, gradients and running statistics lie apart, each as the norm of the difference by the norm.

    Args:
        fast: One side.
        reference: The other; its norms count.
        parts: Which of `PARTS` to run.
    """
    found: dict[str, float] = {}
    for part in parts:
        losses = []
        for side in (fast, reference):
            torch.manual_seed(0)
            losses.append(PARTS[part](side).double())
        found[f"{part}: loss"] = float((losses[0] - losses[1]).abs() / losses[1].abs())
        chosen = "architectures." if part == "architecture" else ("cells.", "parts.")
        squares = torch.zeros(2, dtype=torch.float64)
        for (name, one), other in zip(fast.supernet.named_parameters(), reference.supernet.parameters(), strict=True):
            if name.startswith(chosen):
                # not reached is a gradient of zero
                ours, theirs = (each.grad if each.grad is not None else torch.zeros_like(each) for each in (one, other))
                squares += torch.stack([(ours - theirs).double().square().sum(), theirs.double().square().sum()]).cpu()
        found[f"{part}: gradients"] = float((squares[0] / squares[1]).sqrt())
    buffers = [torch.cat([each.flatten().double() for each in side.supernet.buffers()]) for side in (fast, reference)]
    found["running statistics"] = float((buffers[0] - buffers[1]).norm() / buffers[1].norm())
    return found


def count_convolutions(side: Side) -> dict[str, int]:
    """Calls and operations of the convolutions of a step, on one thread."""
    found = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for part, gradients in PARTS.items():
        torch.manual_seed(0)
        with ConvolutionCount() as count:
            gradients(side)
        found[f"{part} calls"], found[f"{part} flops"] = count.calls, count.flops
    torch.set_num_threads(threads)
    return found


def convolution_time_share(side: Side) -> tuple[float, float]:
    """A search step on one CPU thread: seconds inside convolutions, and in all."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        side.architecture_gradients()
        side.weights_gradients(SEARCH_PASSES)
    torch.set_num_threads(threads)
    events = profiled.key_averages()
    inside = sum(
        event.self_cpu_time_total for event in events if "conv" in event.key and event.key.startswith("aten::")
    )
    return inside / 1e6, sum(event.self_cpu_time_total for event in events) / 1e6


def peak_beyond_state_mib(name: str, work: Workload) -> float:
    """The most memory of a search and a pretraining step beyond weights, gradients and momentum, in this process."""
    side: Side = FastSide(work) if name == "fast" else ReferenceSide(work)
    for parameter in side.supernet.parameters():
        parameter.grad = torch.full_like(parameter, 1e-9)
    side.move_weights()  # the momentum's memory is not there before it is written to
    before = peak_memory_bytes(work.fabric.device)
    for part, gradients in PARTS.items():
        gradients(side)
        (side.move_architecture if part == "architecture" else side.move_weights)()
    after = peak_memory_bytes(work.fabric.device)
    assert before is not None and after is not None, "this system does not tell a process's peak memory"
    return (after - before) / 2**20
