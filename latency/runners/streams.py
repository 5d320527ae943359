"""Timing on a CUDA stream: an event before and after every run, one synchronisation at the end.

The host would stop its clock before the device has done the work; events are part of the stream and see the work only.
Runners differ in whose streams and events they use, so they hand in theirs as a `TimingStream`.
"""

from collections.abc import Callable
from typing import Protocol, TypeVar

import torch

from latency.runners.base import TimedCall

Event = TypeVar("Event")


class TimingStream(Protocol[Event]):
    """A stream, other than the default one, whose events tell when its work was done."""

    def create_event(self) -> Event:
        """An event of the device, ready to be recorded."""
        ...

    def record(self, event: Event) -> None:
        """Puts the event on the stream."""
        ...

    def synchronize(self) -> None:
        """Waits for all work on the stream."""
        ...

    def elapsed_ms(self, start: Event, end: Event) -> float:
        """Milliseconds between two events that have happened."""
        ...


def time_on_stream(launch: Callable[[], object], count: int, stream: TimingStream[Event]) -> list[TimedCall]:
    """Times `count` launches on a stream, each by the events around it.

    Args:
        launch: Puts one run on that stream and does not wait for it.
        count: How many runs.
        stream: The stream.
    """
    # created beforehand: the device would wait for the host to do it
    pairs = [(stream.create_event(), stream.create_event()) for _ in range(count)]
    for start, end in pairs:
        stream.record(start)
        launch()
        stream.record(end)
    stream.synchronize()
    return [TimedCall(stream.elapsed_ms(start, end), undisturbed=True) for start, end in pairs]


class TorchStream:
    """A stream of PyTorch's own, for runners that work on PyTorch's tensors.

    Attributes:
        stream: The stream.
    """

    def __init__(self) -> None:
        self.stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        # weights and inputs were copied to the device on the current stream
        self.stream.wait_stream(torch.cuda.current_stream())

    def create_event(self) -> torch.cuda.Event:
        """See `TimingStream`."""
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        # PyTorch creates the device's event when it is recorded for the first time
        event.record(self.stream)
        return event

    def record(self, event: torch.cuda.Event) -> None:
        """See `TimingStream`."""
        event.record(self.stream)

    def synchronize(self) -> None:
        """See `TimingStream`."""
        self.stream.synchronize()

    def elapsed_ms(self, start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        """See `TimingStream`."""
        return float(start.elapsed_time(end))
