"""Timing of sessions: warm-up, rounds in which several sessions take turns, the median of the rounds' medians.

Two things keep other work on the machine out of the figures. Sessions take turns, so that a disturbance spoils one
round of many measurements, which the median ignores, instead of one measurement altogether. And a call in which the
process lost a core does not count; a round that has too few calls left goes on for a while.
"""

import gc
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from latency.config import LatencyConfig
from latency.runners.base import Conditions, Session, Shape, TimedCall

_MIN_CALLS, _MAX_CALLS = 3, 2000
_MIN_UNDISTURBED, _MAX_TRIES = 2, 6


@dataclass(frozen=True)
class LatencyMeasurement:
    """The measured time of one session.

    Attributes:
        median_ms: Median of the rounds' medians over undisturbed calls.
        p95_ms: 95th percentile of all calls, disturbed ones included.
        spread: Interquartile range of the rounds' medians over `median_ms`.
        count: Timed calls.
        disturbed_count: Calls among them in which the process lost a core.
        rounds: Rounds they were timed in.
        warmup_count: Calls before the first timed one.
        attempts: How often it was measured; the steadiest attempt is the one that is kept.
        stable: Whether the spread is within the bound and every round had undisturbed calls.
        input_shape: (N, C, H, W) of the input.
        conditions: Runner, device, threads, precision and versions.
    """

    median_ms: float
    p95_ms: float
    spread: float
    count: int
    disturbed_count: int
    rounds: int
    warmup_count: int
    attempts: int
    stable: bool
    input_shape: Shape
    conditions: Conditions

    def to_dict(self) -> dict[str, Any]:
        """The measurement as JSON-ready plain data."""
        return {**asdict(self), "input_shape": list(self.input_shape)}

    def describe(self) -> str:
        """The time and its conditions in one line."""
        conditions = self.conditions
        versions = ", ".join(f"{package} {version}" for package, version in conditions.versions.items())
        unstable = "" if self.stable else "; UNSTABLE: the machine was busy, measure again"
        return (
            f"{self.median_ms:.3f} ms median, {self.p95_ms:.3f} ms p95 of {self.count} calls in {self.rounds} rounds "
            f"(spread {self.spread:.1%}; {self.disturbed_count} disturbed calls left out of the median; "
            f"{self.warmup_count} calls warm-up), batch {self.input_shape[0]}, "
            f"input {self.input_shape[2]}x{self.input_shape[3]}, {conditions.precision}, {conditions.runner} on "
            f"{conditions.device} ({conditions.device_name}, {conditions.threads} thread(s)), {versions}{unstable}"
        )


def measure_sessions(
    sessions: Sequence[Session], conditions: Conditions, *, protocol: LatencyConfig
) -> list[LatencyMeasurement]:
    """Times sessions that take turns, and repeats those whose rounds disagree.

    Args:
        sessions: What to time; all of one runner.
        conditions: The runner's conditions, recorded with each measurement.
        protocol: Rounds, their length and the bound on the spread.

    Returns:
        One measurement per session, in their order.
    """
    best = _measure_once(sessions, conditions, protocol=protocol)
    for attempt in range(2, protocol.repeats + 2):
        unstable = [index for index, measurement in enumerate(best) if not measurement.stable]
        if not unstable:
            break
        again = _measure_once([sessions[index] for index in unstable], conditions, protocol=protocol)
        for index, measurement in zip(unstable, again, strict=True):
            steadiest = min(best[index], measurement, key=lambda candidate: (not candidate.stable, candidate.spread))
            best[index] = replace(steadiest, attempts=attempt)
    return best


def _measure_once(
    sessions: Sequence[Session], conditions: Conditions, *, protocol: LatencyConfig
) -> list[LatencyMeasurement]:
    rounds: list[list[list[TimedCall]]] = [[] for _ in sessions]
    with _without_garbage_collection():
        warmups = [_warm_up(session, protocol) for session in sessions]
        counts = [_calls_per_round(calls, protocol) for calls in warmups]
        for _ in range(protocol.rounds):
            for session, count, timed in zip(sessions, counts, rounds, strict=True):
                timed.append(_run_round(session, count))
    return [
        _summarise(session, timed, conditions, protocol=protocol, warmup_count=len(warmup))
        for session, timed, warmup in zip(sessions, rounds, warmups, strict=True)
    ]


def _warm_up(session: Session, protocol: LatencyConfig) -> list[TimedCall]:
    """Runs the session until the warm-up time has passed; at least twice."""
    calls = session.time_calls(2)
    while sum(call.duration_ms for call in calls) < protocol.warmup_ms:
        calls += session.time_calls(min(len(calls), _MAX_CALLS))
    return calls


def _calls_per_round(warmup: Sequence[TimedCall], protocol: LatencyConfig) -> int:
    settled = [call.duration_ms for call in warmup[len(warmup) // 2 :]]
    call_ms = max(float(np.percentile(settled, 25)), 1e-6)
    return max(_MIN_CALLS, min(_MAX_CALLS, math.ceil(protocol.round_ms / call_ms)))


def _run_round(session: Session, count: int) -> list[TimedCall]:
    # the first call finds the caches full of the session that ran before
    session.time_calls(1)
    calls = session.time_calls(count)
    for _ in range(_MAX_TRIES):
        if sum(call.undisturbed for call in calls) >= _MIN_UNDISTURBED:
            break
        calls += session.time_calls(count)
    return calls


def _round_median(calls: Sequence[TimedCall]) -> float:
    undisturbed = [call.duration_ms for call in calls if call.undisturbed]
    # where every call was disturbed, the fastest was disturbed least; the measurement is marked as unstable
    return float(np.median(undisturbed)) if undisturbed else min(call.duration_ms for call in calls)


def _summarise(
    session: Session,
    rounds: list[list[TimedCall]],
    conditions: Conditions,
    *,
    protocol: LatencyConfig,
    warmup_count: int,
) -> LatencyMeasurement:
    medians = [_round_median(calls) for calls in rounds]
    median_ms = float(np.median(medians))
    low, high = np.percentile(medians, [25, 75])
    spread = float(high - low) / median_ms
    calls = [call for timed in rounds for call in timed]
    return LatencyMeasurement(
        median_ms=median_ms,
        p95_ms=float(np.percentile([call.duration_ms for call in calls], 95)),
        spread=spread,
        count=len(calls),
        disturbed_count=sum(not call.undisturbed for call in calls),
        rounds=len(rounds),
        warmup_count=warmup_count,
        attempts=1,
        stable=spread <= protocol.spread_bound and all(any(call.undisturbed for call in timed) for timed in rounds),
        input_shape=session.input_shape,
        conditions=conditions,
    )


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Keeps Python's garbage collector out of the timed calls."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
