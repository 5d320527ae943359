"""The rounds that a session is timed in: how often it is called in its turn, how many turns, and which calls count."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from latency.config import LatencyConfig
from latency.runners.base import Conditions, Session, TimedCall

_MIN_ROUNDS, _MAX_CALLS = 5, 2000
LONG_CALL_MS = 50.0
# a GPU raises its clocks under work only, and what it does between two events is short
CUDA_WARMUP_MS, CUDA_CALLS = 200.0, 100
_MIN_UNDISTURBED, _MAX_TRIES = 2, 4


class RoundPlan(NamedTuple):
    """What a session does in its turn.

    Attributes:
        calls: Timed calls.
        lead: Calls before them that do not count: they find the caches full of the session that ran before.
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
    """As many calls as fill the round; one of an operator or network that takes longer than that."""
    call_ms = _call_ms(warmup)
    calls = min(_MAX_CALLS, math.ceil(protocol.round_ms / call_ms))
    if conditions.device == "cuda":
        return RoundPlan(max(calls, math.ceil(CUDA_CALLS / min(_MIN_ROUNDS, protocol.rounds))))
    if call_ms >= LONG_CALL_MS:
        # it fills the caches by itself, so that its own first call is as good as any
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
    """A session's turn: as planned, and on for a while where too few of its calls count."""
    if plan.lead:
        session.time_calls(plan.lead)
    calls = session.time_calls(plan.calls)
    for _ in range(_MAX_TRIES):
        if sum(map(counts, calls)) >= min(_MIN_UNDISTURBED, plan.calls):
            break
        calls += session.time_calls(plan.calls)
    return calls


def counts(call: TimedCall) -> bool:
    """Whether a call counts: an interruption takes a few milliseconds, which spoils short calls only."""
    return call.undisturbed or call.duration_ms >= LONG_CALL_MS


def round_median(calls: Sequence[TimedCall]) -> float:
    """The time of a round: the median of the calls that count."""
    counted = [call.duration_ms for call in calls if counts(call)]
    # where every call was disturbed, the fastest was disturbed least; the measurement is marked as unstable
    return float(np.median(counted)) if counted else min(call.duration_ms for call in calls)
