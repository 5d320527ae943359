from itertools import count

import pytest
import torch
from torch import nn

from latency.runners.pytorch import PyTorchRunner
from latency.runners.streams import time_on_stream


class QueueStream:
    """A stream on which nothing happens before it is synchronised, as on a device that is behind its host."""

    def __init__(self) -> None:
        self.queue: list[str | int] = []
        self.created = count()
        self.times_ms: dict[int, float] = {}
        self.synchronizations = 0

    def create_event(self) -> int:
        assert not self.queue, "an event was created while the stream had work"
        return next(self.created)

    def record(self, event: int) -> None:
        self.queue.append(event)

    def synchronize(self) -> None:
        self.synchronizations += 1
        now_ms = 0.0
        for item in self.queue:
            if isinstance(item, int):
                self.times_ms[item] = now_ms
            else:
                now_ms += 3.0

    def elapsed_ms(self, start: int, end: int) -> float:
        return self.times_ms[end] - self.times_ms[start]


def test_each_run_stands_between_two_events_and_the_stream_is_waited_for_once() -> None:
    stream = QueueStream()
    calls = time_on_stream(lambda: stream.queue.append("run"), 4, stream)
    assert [call.duration_ms for call in calls] == [3.0] * 4 and all(call.undisturbed for call in calls)
    assert stream.synchronizations == 1
    assert [isinstance(item, int) for item in stream.queue] == [True, False, True] * 4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("mode", ["eager", "cuda_graph"])
def test_the_gpu_time_is_the_time_of_the_work(mode: str) -> None:
    """A clock that did not wait for the device would find a network and one eight times as deep equally fast."""
    runner = PyTorchRunner(device="cuda", mode=mode)
    medians = []
    for depth in (4, 32):
        layers = [nn.Conv2d(256, 256, 3, padding=1) for _ in range(depth)]
        session = runner.prepare(nn.Sequential(*layers), (1, 256, 256, 256))
        session.time_calls(5)
        durations = sorted(call.duration_ms for call in session.time_calls(11))
        medians.append(durations[5])
    assert 4 < medians[1] / medians[0] < 16
