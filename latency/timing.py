"""Timing of sessions: warm-up, rounds in which several sessions take turns, the median of the rounds' medians.

Three things keep other work on the machine out of the figures. Sessions take turns, so that a disturbance spoils one
round of many measurements, which the median ignores, instead of one measurement altogether. A short call in which the
process lost a core does not enter the median; a round with too few other calls gets more calls.

And the machine's speed is measured between the turns. Clocks, shared caches and neighbours on the same hardware make a
machine several percent faster or slower from one moment to the next, for everything alike. A fixed small network, the
reference, is timed beside everything else (`reference_session`). Its time `reference_ms` is what "machine speed" means
in this room: a larger one is a slower machine. A time in units of the reference, measured in the same moment, can be
compared with times of other moments; a table holds its operators' times at one machine speed.
"""

import gc
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import nn

from fasterseg.networks.resizing import Resize, Size
from latency.config import LatencyConfig
from latency.runners.base import Conditions, Runner, Session, Shape, TimedCall
from latency.runners.cuda import read_clocks_mhz

REFERENCE_CALLS = 3
SPEED_INTERVAL_S = 0.1
LONG_CALL_MS = 50.0
# a GPU raises its clocks under work only, and what it does between two events is short
CUDA_WARMUP_MS, CUDA_CALLS = 200.0, 100
_MIN_ROUNDS, _MAX_CALLS = 5, 2000
_MIN_UNDISTURBED, _MAX_TRIES = 2, 4
# maps of 2 MiB on a CPU: like a network's, they do not stay in a core's own cache, whose speed says little of the rest
_REFERENCE_CHANNELS, _REFERENCE_CONVOLUTIONS, _REFERENCE_RESIZED_CHANNELS = 64, 2, 16
_REFERENCE_SIZES: dict[str, Size] = {"cpu": (64, 128), "cuda": (256, 512)}
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
        reference_ms: Time of the reference network in the same rounds: the machine's speed, smaller on a faster
            machine; None without a reference.
        relative: The time in units of the reference of the same round; None without a reference.
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

    def at_speed(self, reference_ms: float) -> float:
        """The time in milliseconds on a machine of another speed, on which the reference takes `reference_ms`.

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


def reference_session(runner: Runner) -> Session:
    """The reference network, ready to be timed by that runner.

    Some milliseconds of 3×3 convolutions, and a tenth as much of a resize, which waits for memory rather than for
    arithmetic. These are about the proportions of the networks here, since clocks and memory do not slow down alike.
    """
    height, width = _REFERENCE_SIZES["cpu" if runner.device == "cpu" else "cuda"]
    layers: list[nn.Module] = []
    for _ in range(_REFERENCE_CONVOLUTIONS):
        layers += [nn.Conv2d(_REFERENCE_CHANNELS, _REFERENCE_CHANNELS, 3, padding=1), nn.ReLU()]
    layers += [nn.Conv2d(_REFERENCE_CHANNELS, _REFERENCE_RESIZED_CHANNELS, 1), Resize((2 * height, 2 * width))]
    return runner.prepare(nn.Sequential(*layers).eval(), (1, _REFERENCE_CHANNELS, height, width))


def measure_modules(
    modules: Sequence[tuple[Callable[[], nn.Module], Shape]],
    runner: Runner,
    *,
    protocol: LatencyConfig,
    reference: Session,
) -> list[LatencyMeasurement]:
    """Times modules with fresh weights, which take turns; times do not depend on the weights.

    Args:
        modules: What builds each, and the (N, C, H, W) of its input.
        runner: What to time them on.
        protocol: How; its seed is that of the weights.
        reference: Measures the machine's speed.
    """
    with ExitStack() as stack:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(protocol.seed)
            sessions = [stack.enter_context(runner.prepare(build(), shape)) for build, shape in modules]
        return measure_sessions(sessions, runner.conditions(), protocol=protocol, reference=reference)


def groups(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """The items in groups of `size`, which take turns when they are timed."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


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
        reference: Measures the machine's speed between the turns (`reference_session`); None leaves it out.

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
    references_ms: list[list[float]] = [[] for _ in subjects]
    with _without_garbage_collection():
        warmups = [warm_up(session, least_warmup_ms(conditions, protocol)) for session, conditions in subjects]
        plans = [
            plan_round(calls, conditions, protocol) for calls, (_, conditions) in zip(warmups, subjects, strict=True)
        ]
        if reference is not None:
            warm_up(reference, protocol.warmup_ms)
        for _ in range(count_rounds(warmups, plans, protocol)):
            speed = _MachineSpeed(reference)
            for (session, _), plan, timed in zip(subjects, plans, rounds, strict=True):
                timed.append(run_round(session, plan))
                speed.turn_ended()
            for of_session, reference_ms in zip(references_ms, speed.around_turns(), strict=True):
                of_session.append(reference_ms)
        # right away: a GPU lowers its clocks again when it rests
        clocks_mhz = read_clocks_mhz() if any(conditions.device == "cuda" for _, conditions in subjects) else {}
    measurements = [
        _summarise(
            session,
            timed,
            of_session,
            conditions=_with_clocks(conditions, clocks_mhz),
            protocol=protocol,
            warmup_count=len(warmup),
        )
        for (session, conditions), timed, of_session, warmup in zip(
            subjects, rounds, references_ms, warmups, strict=True
        )
    ]
    if reference is None:
        return [replace(measurement, reference_ms=None, relative=None) for measurement in measurements]
    return measurements


class _MachineSpeed:
    """What the reference takes along one round: before its first session, after its last, and every so often between.

    Args:
        reference: What is timed; None for a machine whose reference always takes 1 ms.
    """

    def __init__(self, reference: Session | None) -> None:
        self._reference = reference
        self._references_ms: list[float] = []
        self._last_before_turn: list[int] = []
        self._measure()

    def turn_ended(self) -> None:
        """Notes that a session had its turn; times the reference if that is due."""
        self._last_before_turn.append(len(self._references_ms) - 1)
        if time.monotonic() - self._measured_s >= SPEED_INTERVAL_S:
            self._measure()

    def around_turns(self) -> list[float]:
        """For each turn the mean of what the reference took before and after it."""
        if self._last_before_turn and self._last_before_turn[-1] == len(self._references_ms) - 1:
            self._measure()
        return [(self._references_ms[index] + self._references_ms[index + 1]) / 2 for index in self._last_before_turn]

    def _measure(self) -> None:
        plan = RoundPlan(REFERENCE_CALLS)
        self._references_ms.append(1.0 if self._reference is None else round_median(run_round(self._reference, plan)))
        self._measured_s = time.monotonic()


def _with_clocks(conditions: Conditions, clocks_mhz: dict[str, int]) -> Conditions:
    """The conditions with the clocks that a CUDA device had under load."""
    return replace(conditions, clocks_mhz=clocks_mhz) if conditions.device == "cuda" else conditions


def _summarise(
    session: Session,
    rounds: list[list[TimedCall]],
    references_ms: list[float],
    *,
    conditions: Conditions,
    protocol: LatencyConfig,
    warmup_count: int,
) -> LatencyMeasurement:
    medians = [round_median(calls) for calls in rounds]
    relative = np.divide(medians, references_ms)
    low, middle, high = np.percentile(relative, [25, 50, 75])
    spread = float(high - low) / float(middle)
    calls = [call for timed in rounds for call in timed]
    return LatencyMeasurement(
        median_ms=float(np.median(medians)),
        p95_ms=float(np.percentile([call.duration_ms for call in calls], 95)),
        spread=spread,
        count=len(calls),
        disturbed_count=sum(not is_valid(call) for call in calls),
        rounds=len(rounds),
        warmup_count=warmup_count,
        attempts=1,
        stable=spread <= protocol.spread_bound and all(any(map(is_valid, timed)) for timed in rounds),
        input_shape=session.input_shape,
        conditions=conditions,
        reference_ms=float(np.median(references_ms)),
        relative=float(middle),
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


class RoundPlan(NamedTuple):
    """What a session does in its turn.

    Attributes:
        calls: Timed calls.
        lead: Untimed calls before them: they find the caches full of the previous session's data.
    """

    calls: int
    lead: int = 1


def least_warmup_ms(conditions: Conditions, protocol: LatencyConfig) -> float:
    """How long a session runs before its first round, at least."""
    return max(protocol.warmup_ms, CUDA_WARMUP_MS) if conditions.device == "cuda" else protocol.warmup_ms


def warm_up(session: Session, least_ms: float) -> list[TimedCall]:
    """Runs the session until the warm-up time has passed; at least twice."""
    calls = session.time_calls(2)
    while sum(call.duration_ms for call in calls) < least_ms:
        calls += session.time_calls(min(len(calls), _MAX_CALLS))
    return calls


def plan_round(warmup: Sequence[TimedCall], conditions: Conditions, protocol: LatencyConfig) -> RoundPlan:
    """Enough calls to fill round_ms; one call if a single call already takes longer."""
    call_ms = _call_ms(warmup)
    calls = min(_MAX_CALLS, math.ceil(protocol.round_ms / call_ms))
    if conditions.device == "cuda":
        return RoundPlan(max(calls, math.ceil(CUDA_CALLS / min(_MIN_ROUNDS, protocol.rounds))))
    if call_ms >= LONG_CALL_MS:
        # it fills the caches by itself, so that its first call is as good as any
        return RoundPlan(calls=1, lead=0)
    return RoundPlan(calls)


def count_rounds(warmups: Sequence[Sequence[TimedCall]], plans: Sequence[RoundPlan], protocol: LatencyConfig) -> int:
    """The protocol's rounds, or fewer where sessions take long: a long call averages over disturbances by itself."""
    turns_ms = [_call_ms(calls) * (plan.calls + plan.lead) for calls, plan in zip(warmups, plans, strict=True)]
    affordable = int(protocol.longest_ms * len(turns_ms) / sum(turns_ms))
    return max(min(_MIN_ROUNDS, protocol.rounds), min(affordable, protocol.rounds))


def _call_ms(warmup: Sequence[TimedCall]) -> float:
    """What a call takes once the session is warm."""
    settled = [call.duration_ms for call in warmup[len(warmup) // 2 :]]
    return max(float(np.percentile(settled, 25)), 1e-6)


def run_round(session: Session, plan: RoundPlan) -> list[TimedCall]:
    """A session's turn: the planned calls, and up to four times as many more where too few of them are valid."""
    if plan.lead:
        session.time_calls(plan.lead)
    calls = session.time_calls(plan.calls)
    for _ in range(_MAX_TRIES):
        if sum(map(is_valid, calls)) >= min(_MIN_UNDISTURBED, plan.calls):
            break
        calls += session.time_calls(plan.calls)
    return calls


def is_valid(call: TimedCall) -> bool:
    """Whether a call enters the median: undisturbed, or so long that an interruption of some milliseconds is small."""
    return call.undisturbed or call.duration_ms >= LONG_CALL_MS


def round_median(calls: Sequence[TimedCall]) -> float:
    """The time of a round: the median of its valid calls."""
    valid_ms = [call.duration_ms for call in calls if is_valid(call)]
    # where every call was disturbed, the fastest was disturbed least; the measurement is marked as unstable
    return float(np.median(valid_ms)) if valid_ms else min(call.duration_ms for call in calls)
