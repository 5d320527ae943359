"""Times of a PyTorch module's layers by PyTorch's profiler, for the PyTorch runner."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function

from latency.runners.base import LayerTime

_OPERATION_PREFIX = "aten::"
_RUN = "one run of the network"


def profile_layers(module: nn.Module, image: torch.Tensor, count: int) -> list[list[LayerTime]]:
    """For each of `count` profiled runs the time of each leaf module, and of each operation that stands outside of one.

    On a CUDA device the times are those of the kernels.
    """
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if image.is_cuda else [])]
    with _named_leaves(module) as kinds:
        with profile(activities=activities) as profiler:
            for _ in range(count):
                with record_function(_RUN):
                    module(image)
            if image.is_cuda:
                torch.cuda.synchronize()
        events: Any = profiler.events()
    # a range has a twin among the device's own events
    runs = [event for event in events if event.name == _RUN and event.device_type.name == "CPU"]
    return [_layers(run.cpu_children, kinds, on_gpu=image.is_cuda) for run in runs]


def _layers(events: Iterable[Any], kinds: Mapping[str, str], *, on_gpu: bool) -> list[LayerTime]:
    """The layers of one run from the events directly below it."""
    seen: Counter[str] = Counter()
    layers = []
    for event in sorted(events, key=lambda event: event.time_range.start):
        name = kind = str(event.name)
        if name in kinds:
            kind = kinds[name]
        elif name.startswith(_OPERATION_PREFIX):
            # operations have no names of their own
            seen[name] += 1
            name = f"{name.removeprefix(_OPERATION_PREFIX)}_{seen[name]}"
        else:
            continue
        duration_us = event.device_time_total if on_gpu else event.cpu_time_total
        layers.append(LayerTime(name, kind, duration_us / 1e3))
    return layers


@contextmanager
def _named_leaves(module: nn.Module) -> Iterator[dict[str, str]]:
    """Lets every leaf module announce itself to the profiler; yields the leaves' kinds by name."""
    kinds: dict[str, str] = {}
    handles = []
    running: list[Any] = []

    def leave(_module: nn.Module, _inputs: object, _output: object) -> None:
        running.pop().__exit__(None, None, None)

    def enter_as(name: str) -> Any:
        def enter(_module: nn.Module, _inputs: object) -> None:
            running.append(record_function(name))
            running[-1].__enter__()

        return enter

    try:
        for name, leaf in module.named_modules():
            if next(leaf.children(), None) is None:
                kinds[name] = type(leaf).__name__
                handles += [leaf.register_forward_pre_hook(enter_as(name)), leaf.register_forward_hook(leave)]
        yield kinds
    finally:
        for handle in handles:
            handle.remove()
