"""What the benchmarks of training have in common: timed calls that take turns, and the machine they ran on."""

import platform
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import torch

from fasterseg.base.machine import available_cores, processor_name

Turn = Callable[[], Mapping[str, float]]


def duration_ms(call: Callable[[], object]) -> float:
    """How long a call takes on the CPU."""
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3


def take_turns(turns: Sequence[Turn], *, rounds: int, warm_up: int = 1) -> dict[str, list[float]]:
    """Runs the turns one after the other for several rounds, so that a slow minute of the machine falls on all of them.

    Args:
        turns: Each gives times in ms by name.
        rounds: That count.
        warm_up: Rounds before them that do not.

    Returns:
        The times of each name, a round after the other.
    """
    times: dict[str, list[float]] = defaultdict(list)
    for number in range(warm_up + rounds):
        for turn in turns:
            for name, value in turn().items():
                if number >= warm_up:
                    times[name].append(value)
    return dict(times)


def medians(times: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The median time of each name."""
    return {name: statistics.median(values) for name, values in times.items()}


def median_ratio(times: Mapping[str, Sequence[float]], above: Sequence[str], below: Sequence[str]) -> float:
    """The median over the rounds of the sum of some names over the sum of others, each round by itself."""
    ratios: list[float] = [
        sum(values[: len(above)]) / sum(values[len(above) :])
        for values in zip(*(times[name] for name in (*above, *below)), strict=True)
    ]
    return statistics.median(ratios)


def machine() -> dict[str, object]:
    """The conditions that every result names."""
    return {
        "threads": torch.get_num_threads(),
        "cpu": processor_name(),
        "cpus": available_cores(),
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }
