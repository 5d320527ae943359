"""Timing of sessions: warm-up, rounds in which several sessions take turns, the median of the rounds' medians.

Three things keep other work on the machine out of the figures. Sessions take turns, so that a disturbance spoils one
round of many measurements, which the median ignores, instead of one measurement altogether. A short call in which the
process lost a core does not count; a round that has too few calls left goes on for a while. And a reference that is
timed between the turns tells how fast the machine is at that moment (`latency.pace`).
"""

import gc
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

import numpy as np

from latency.config import LatencyConfig
from latency.rounds import (
    RoundPlan,
    count_rounds,
    counts,
    least_warmup_ms,
    plan_round,
    round_median,
    run_round,
    warm_up,
)
from latency.runners.base import Conditions, Session, Shape, TimedCall
from latency.runners.clocks import read_clocks_mhz

REFERENCE_CALLS = 3
PACE_INTERVAL_S = 0.1
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
        warmups = [warm_up(session, least_warmup_ms(conditions, protocol)) for session, conditions in subjects]
        plans = [
            plan_round(calls, conditions, protocol) for calls, (_, conditions) in zip(warmups, subjects, strict=True)
        ]
        if reference is not None:
            warm_up(reference, protocol.warmup_ms)
        for _ in range(count_rounds(warmups, plans, protocol)):
            marks = _PaceMarks(reference)
            for (session, _), plan, timed in zip(subjects, plans, rounds, strict=True):
                timed.append(run_round(session, plan))
                marks.follow()
            for pace, pace_ms in zip(paces, marks.close(), strict=True):
                pace.append(pace_ms)
        # at once: a GPU lowers its clocks again when it rests
        clocks_mhz = read_clocks_mhz() if any(conditions.device == "cuda" for _, conditions in subjects) else {}
    measurements = [
        _summarise(
            session,
            timed,
            pace,
            conditions=_with_clocks(conditions, clocks_mhz),
            protocol=protocol,
            warmup_count=len(warmup),
        )
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
        pace_ms = 1.0 if self._reference is None else round_median(run_round(self._reference, _REFERENCE_PLAN))
        self._paces_ms.append(pace_ms)
        self._measured_s = time.monotonic()


_REFERENCE_PLAN = RoundPlan(REFERENCE_CALLS)


def _with_clocks(conditions: Conditions, clocks_mhz: dict[str, int]) -> Conditions:
    """The conditions with the clocks that a CUDA device had under load."""
    return replace(conditions, clocks_mhz=clocks_mhz) if conditions.device == "cuda" else conditions


def _summarise(
    session: Session,
    rounds: list[list[TimedCall]],
    paces_ms: list[float],
    *,
    conditions: Conditions,
    protocol: LatencyConfig,
    warmup_count: int,
) -> LatencyMeasurement:
    medians = [round_median(calls) for calls in rounds]
    relative = np.divide(medians, paces_ms)
    low, middle, high = np.percentile(relative, [25, 50, 75])
    spread = float(high - low) / float(middle)
    calls = [call for timed in rounds for call in timed]
    return LatencyMeasurement(
        median_ms=float(np.median(medians)),
        p95_ms=float(np.percentile([call.duration_ms for call in calls], 95)),
        spread=spread,
        count=len(calls),
        disturbed_count=sum(not counts(call) for call in calls),
        rounds=len(rounds),
        warmup_count=warmup_count,
        attempts=1,
        stable=spread <= protocol.spread_bound and all(any(map(counts, timed)) for timed in rounds),
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
