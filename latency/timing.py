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
from typing import Any, TypeVar

import numpy as np

from latency.config import LatencyConfig
from latency.runners.base import Conditions, Session, Shape, TimedCall

_MIN_CALLS, _MAX_CALLS = 3, 2000
REFERENCE_CALLS = 6
Item = TypeVar("Item")
_MIN_UNDISTURBED, _MAX_TRIES = 2, 6


@dataclass(frozen=True)
class LatencyMeasurement:
    """The measured time of one session.

    Attributes:
        median_ms: Median of the rounds' medians over undisturbed calls.
        p95_ms: 95th percentile of all calls, disturbed ones included.
        spread: Interquartile range of the rounds' medians over their median; in units of the reference where
            there is one.
        count: Timed calls.
        disturbed_count: Calls among them in which the process lost a core.
        rounds: Rounds they were timed in.
        warmup_count: Calls before the first timed one.
        attempts: How often it was measured; the steadiest attempt is the one that is kept.
        stable: Whether the spread is within the bound and every round had undisturbed calls.
        input_shape: (N, C, H, W) of the input.
        conditions: Runner, device, threads, precision and versions.
        reference_ms: What the reference took in the same rounds: the machine's pace; None without a reference.
        relative: The time in units of the reference, each round by its own; None without a reference.
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
    reference_ms: float | None = None
    relative: float | None = None

    def at_pace(self, reference_ms: float) -> float:
        """The time as it would be if the reference took `reference_ms`, in milliseconds.

        Raises:
            ValueError: It was measured without a reference.
        """
        if self.relative is None:
            raise ValueError("the measurement has no reference; pass one to measure_sessions")
        return self.relative * reference_ms

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
    sessions: Sequence[Session],
    conditions: Conditions,
    *,
    protocol: LatencyConfig,
    reference: Session | None = None,
) -> list[LatencyMeasurement]:
    """Times sessions that take turns, and repeats those whose rounds disagree.

    Args:
        sessions: What to time; all of one runner.
        conditions: The runner's conditions, recorded with each measurement.
        protocol: Rounds, their length and the bound on the spread.
        reference: Measures the machine's pace between the turns (`pace.reference_session`); None leaves it out.

    Returns:
        One measurement per session, in their order.
    """
    best = _measure_once(sessions, conditions, protocol=protocol, reference=reference)
    for attempt in range(2, protocol.repeats + 2):
        unstable = [index for index, measurement in enumerate(best) if not measurement.stable]
        if not unstable:
            break
        shaky = [sessions[index] for index in unstable]
        again = _measure_once(shaky, conditions, protocol=protocol, reference=reference)
        for index, measurement in zip(unstable, again, strict=True):
            steadiest = min(best[index], measurement, key=lambda candidate: (not candidate.stable, candidate.spread))
            best[index] = replace(steadiest, attempts=attempt)
    return best


def _measure_once(
    sessions: Sequence[Session], conditions: Conditions, *, protocol: LatencyConfig, reference: Session | None
) -> list[LatencyMeasurement]:
    rounds: list[list[list[TimedCall]]] = [[] for _ in sessions]
    paces: list[list[float]] = [[] for _ in sessions]
    with _without_garbage_collection():
        warmups = [_warm_up(session, protocol) for session in sessions]
        counts = [_calls_per_round(calls, protocol) for calls in warmups]
        for _ in range(protocol.rounds):
            before_ms = _pace(reference)
            for session, count, timed, pace in zip(sessions, counts, rounds, paces, strict=True):
                timed.append(_run_round(session, count))
                after_ms = _pace(reference)
                pace.append((before_ms + after_ms) / 2)
                before_ms = after_ms
    measurements = [
        _summarise(session, timed, pace, conditions=conditions, protocol=protocol, warmup_count=len(warmup))
        for session, timed, pace, warmup in zip(sessions, rounds, paces, warmups, strict=True)
    ]
    if reference is None:
        return [replace(measurement, reference_ms=None, relative=None) for measurement in measurements]
    return measurements


def _pace(reference: Session | None) -> float:
    """What the reference takes at this moment; a constant where there is none."""
    return 1.0 if reference is None else _round_median(_run_round(reference, REFERENCE_CALLS))


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
    paces_ms: list[float],
    *,
    conditions: Conditions,
    protocol: LatencyConfig,
    warmup_count: int,
) -> LatencyMeasurement:
    medians = [_round_median(calls) for calls in rounds]
    relative = np.divide(medians, paces_ms)
    low, middle, high = np.percentile(relative, [25, 50, 75])
    spread = float(high - low) / float(middle)
    calls = [call for timed in rounds for call in timed]
    return LatencyMeasurement(
        median_ms=float(np.median(medians)),
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
        reference_ms=float(np.median(paces_ms)),
        relative=float(middle),
    )


def groups(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """The items in groups of `size`, which take turns when they are timed."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


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
