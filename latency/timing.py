"""Timing of sessions: warm-up, rounds in which several sessions take turns, the median of the rounds' medians.

Three things keep other work on the machine out of the figures. Sessions take turns, so that a disturbance spoils one
round of many measurements, which the median ignores, instead of one measurement altogether. A short call in which the
process lost a core does not count; a round that has too few calls left goes on for a while. And a reference that is
timed between the turns tells how fast the machine is at that moment (`latency.pace`).
"""

import gc
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple, TypeVar

import numpy as np

from latency.config import LatencyConfig
from latency.runners.base import Conditions, Session, Shape, TimedCall

_MIN_ROUNDS, _MAX_CALLS = 5, 2000
LONG_CALL_MS = 50.0
REFERENCE_CALLS = 3
PACE_INTERVAL_S = 0.1
# a GPU raises its clocks under work only, and what it does between two events is short
CUDA_WARMUP_MS, CUDA_CALLS = 200.0, 100
_MIN_UNDISTURBED, _MAX_TRIES = 2, 4
Item = TypeVar("Item")


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
    conditions: Conditions | Sequence[Conditions],
    *,
    protocol: LatencyConfig,
    reference: Session | None = None,
) -> list[LatencyMeasurement]:
    """Times sessions that take turns, and repeats those whose rounds disagree.

    Args:
        sessions: What to time.
        conditions: The runner's conditions, recorded with each measurement; one for each session where they are of
            several runners.
        protocol: Rounds, their length and the bound on the spread.
        reference: Measures the machine's pace between the turns (`pace.reference_session`); None leaves it out.

    Returns:
        One measurement per session, in their order.
    """
    shared = [conditions] * len(sessions) if isinstance(conditions, Conditions) else list(conditions)
    subjects = list(zip(sessions, shared, strict=True))
    best = _measure_once(subjects, protocol=protocol, reference=reference)
    for attempt in range(2, protocol.repeats + 2):
        unstable = [index for index, measurement in enumerate(best) if not measurement.stable]
        if not unstable:
            break
        again = _measure_once([subjects[index] for index in unstable], protocol=protocol, reference=reference)
        for index, measurement in zip(unstable, again, strict=True):
            steadiest = min(best[index], measurement, key=lambda candidate: (not candidate.stable, candidate.spread))
            best[index] = replace(steadiest, attempts=attempt)
    return best


def _measure_once(
    subjects: Sequence[tuple[Session, Conditions]], *, protocol: LatencyConfig, reference: Session | None
) -> list[LatencyMeasurement]:
    rounds: list[list[list[TimedCall]]] = [[] for _ in subjects]
    paces: list[list[float]] = [[] for _ in subjects]
    with _without_garbage_collection():
        warmups = [_warm_up(session, _warmup_ms(conditions, protocol)) for session, conditions in subjects]
        plans = [
            _plan_round(calls, conditions, protocol) for calls, (_, conditions) in zip(warmups, subjects, strict=True)
        ]
        if reference is not None:
            _warm_up(reference, protocol.warmup_ms)
        for _ in range(_count_rounds(warmups, plans, protocol)):
            marks = _PaceMarks(reference)
            for (session, _), plan, timed in zip(subjects, plans, rounds, strict=True):
                timed.append(_run_round(session, plan))
                marks.follow()
            for pace, pace_ms in zip(paces, marks.close(), strict=True):
                pace.append(pace_ms)
    measurements = [
        _summarise(session, timed, pace, conditions=conditions, protocol=protocol, warmup_count=len(warmup))
        for (session, conditions), timed, pace, warmup in zip(subjects, rounds, paces, warmups, strict=True)
    ]
    if reference is None:
        return [replace(measurement, reference_ms=None, relative=None) for measurement in measurements]
    return measurements


class _PaceMarks:
    """The machine's pace along one round: before its first session, after its last, and every so often between.

    Args:
        reference: What is timed; None for a pace that is always 1.
    """

    def __init__(self, reference: Session | None) -> None:
        self._reference = reference
        self._paces_ms: list[float] = []
        self._before: list[int] = []
        self._measure()

    def follow(self) -> None:
        """Notes that a session had its turn."""
        self._before.append(len(self._paces_ms) - 1)
        if time.monotonic() - self._measured_s >= PACE_INTERVAL_S:
            self._measure()

    def close(self) -> list[float]:
        """The pace around each session's turn: the mean of the marks before and after it."""
        if self._before and self._before[-1] == len(self._paces_ms) - 1:
            self._measure()
        return [(self._paces_ms[index] + self._paces_ms[index + 1]) / 2 for index in self._before]

    def _measure(self) -> None:
        pace_ms = 1.0 if self._reference is None else _round_median(_run_round(self._reference, _REFERENCE_PLAN))
        self._paces_ms.append(pace_ms)
        self._measured_s = time.monotonic()


class _RoundPlan(NamedTuple):
    """What a session does in its turn.

    Attributes:
        calls: Timed calls.
        lead: Calls before them that do not count: they find the caches full of the session that ran before.
    """

    calls: int
    lead: int = 1


_REFERENCE_PLAN = _RoundPlan(REFERENCE_CALLS)


def _warmup_ms(conditions: Conditions, protocol: LatencyConfig) -> float:
    return max(protocol.warmup_ms, CUDA_WARMUP_MS) if conditions.device == "cuda" else protocol.warmup_ms


def _warm_up(session: Session, least_ms: float) -> list[TimedCall]:
    """Runs the session until the warm-up time has passed; at least twice."""
    calls = session.time_calls(2)
    while sum(call.duration_ms for call in calls) < least_ms:
        calls += session.time_calls(min(len(calls), _MAX_CALLS))
    return calls


def _plan_round(warmup: Sequence[TimedCall], conditions: Conditions, protocol: LatencyConfig) -> _RoundPlan:
    """As many calls as fill the round; one of an operator or network that takes longer than that."""
    call_ms = _call_ms(warmup)
    calls = min(_MAX_CALLS, math.ceil(protocol.round_ms / call_ms))
    if conditions.device == "cuda":
        return _RoundPlan(max(calls, math.ceil(CUDA_CALLS / min(_MIN_ROUNDS, protocol.rounds))))
    if call_ms >= LONG_CALL_MS:
        # it fills the caches by itself, so that its own first call is as good as any
        return _RoundPlan(calls=1, lead=0)
    return _RoundPlan(calls)


def _count_rounds(warmups: Sequence[Sequence[TimedCall]], plans: Sequence[_RoundPlan], protocol: LatencyConfig) -> int:
    """The protocol's rounds, or fewer where sessions take long: a long call averages over disturbances by itself."""
    turns_ms = [_call_ms(calls) * (plan.calls + plan.lead) for calls, plan in zip(warmups, plans, strict=True)]
    affordable = int(protocol.longest_ms * len(turns_ms) / sum(turns_ms))
    return max(min(_MIN_ROUNDS, protocol.rounds), min(affordable, protocol.rounds))


def _call_ms(warmup: Sequence[TimedCall]) -> float:
    """What a call takes once the session is warm."""
    settled = [call.duration_ms for call in warmup[len(warmup) // 2 :]]
    return max(float(np.percentile(settled, 25)), 1e-6)


def _run_round(session: Session, plan: _RoundPlan) -> list[TimedCall]:
    if plan.lead:
        session.time_calls(plan.lead)
    calls = session.time_calls(plan.calls)
    for _ in range(_MAX_TRIES):
        if sum(map(_counts, calls)) >= min(_MIN_UNDISTURBED, plan.calls):
            break
        calls += session.time_calls(plan.calls)
    return calls


def _counts(call: TimedCall) -> bool:
    """Whether a call counts: an interruption takes a few milliseconds, which spoils short calls only."""
    return call.undisturbed or call.duration_ms >= LONG_CALL_MS


def _round_median(calls: Sequence[TimedCall]) -> float:
    counted = [call.duration_ms for call in calls if _counts(call)]
    # where every call was disturbed, the fastest was disturbed least; the measurement is marked as unstable
    return float(np.median(counted)) if counted else min(call.duration_ms for call in calls)


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
        disturbed_count=sum(not _counts(call) for call in calls),
        rounds=len(rounds),
        warmup_count=warmup_count,
        attempts=1,
        stable=spread <= protocol.spread_bound and all(any(map(_counts, timed)) for timed in rounds),
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
