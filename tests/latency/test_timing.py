import dataclasses
import time
from collections.abc import Callable

import pytest
from torch import nn

from latency import timing
from latency.config import LatencyConfig
from latency.runners.base import Array, Conditions, Session, TimedCall, time_on_host
from latency.runners.onnxruntime import OnnxRuntimeRunner
from latency.timing import (
    CUDA_CALLS,
    CUDA_WARMUP_MS,
    REFERENCE_CALLS,
    SPEED_INTERVAL_S,
    measure_sessions,
    reference_session,
)


class ScriptedSession(Session):
    """A session whose calls take what a function of the call's number says."""

    def __init__(self, script: Callable[[int], TimedCall]) -> None:
        self.input_shape = (1, 3, 8, 8)
        self.script = script
        self.calls = 0

    def run(self, image: Array) -> Array:
        return image

    def time_calls(self, count: int) -> list[TimedCall]:
        self.calls += count
        return [self.script(number) for number in range(self.calls - count, self.calls)]


def test_a_steady_session(quick: LatencyConfig, conditions: Conditions) -> None:
    session = ScriptedSession(lambda number: TimedCall(2.0, True))
    (measurement,) = measure_sessions([session], conditions, protocol=quick)
    assert (measurement.median_ms, measurement.p95_ms, measurement.spread) == (2.0, 2.0, 0.0)
    assert measurement.stable and measurement.attempts == 1
    assert measurement.count == quick.rounds and measurement.warmup_count == 2
    assert measurement.input_shape == (1, 3, 8, 8) and measurement.conditions == conditions


def test_the_clocks_are_those_under_load(
    quick: LatencyConfig, conditions: Conditions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU raises its clocks under work only, so they are read after the timed calls, not before."""
    session = ScriptedSession(lambda number: TimedCall(2.0, True))
    monkeypatch.setattr(timing, "read_clocks_mhz", lambda: {"clocks.sm": session.calls})
    on_cuda = dataclasses.replace(conditions, device="cuda", clocks_mhz={"clocks.sm": 1})
    loaded, on_cpu = measure_sessions([session, ScriptedSession(session.script)], [on_cuda, conditions], protocol=quick)
    assert loaded.conditions.clocks_mhz == {"clocks.sm": session.calls} and session.calls >= CUDA_CALLS
    assert on_cpu.conditions.clocks_mhz == {}


def test_disturbed_calls_are_left_out_of_the_median(quick: LatencyConfig, conditions: Conditions) -> None:
    session = ScriptedSession(lambda number: TimedCall(9.0, False) if number % 3 else TimedCall(2.0, True))
    (measurement,) = measure_sessions([session], conditions, protocol=quick)
    assert measurement.median_ms == 2.0 and measurement.p95_ms == 9.0
    assert 0 < measurement.disturbed_count < measurement.count and measurement.stable


def test_a_session_that_is_always_disturbed_is_marked(quick: LatencyConfig, conditions: Conditions) -> None:
    session = ScriptedSession(lambda number: TimedCall(2.0 + number % 2, False))
    (measurement,) = measure_sessions([session], conditions, protocol=quick)
    assert measurement.median_ms == 2.0 and not measurement.stable
    assert "UNSTABLE" in measurement.describe()


def test_an_unstable_measurement_is_repeated_and_the_steady_one_kept(conditions: Conditions) -> None:
    protocol = LatencyConfig(rounds=4, round_ms=0.1, warmup_ms=0.1, repeats=2, correction_networks=0)
    first_attempt = 2 + 4 * 2
    shaky = ScriptedSession(
        lambda number: TimedCall(1.0 + number % 7 if number < first_attempt else 3.0, undisturbed=True)
    )
    steady = ScriptedSession(lambda number: TimedCall(1.0, True))
    repeated, once = measure_sessions([shaky, steady], conditions, protocol=protocol)
    assert (repeated.median_ms, repeated.attempts, repeated.stable) == (3.0, 2, True)
    assert once.attempts == 1


def test_an_unstable_measurement_that_stays_so_says_so(conditions: Conditions) -> None:
    protocol = LatencyConfig(rounds=4, round_ms=0.1, warmup_ms=0.1, repeats=1, correction_networks=0)
    session = ScriptedSession(lambda number: TimedCall(1.0 + number, True))
    (measurement,) = measure_sessions([session], conditions, protocol=protocol)
    assert not measurement.stable and measurement.attempts == 2 and measurement.spread > protocol.spread_bound


def test_sessions_take_turns(conditions: Conditions, quick: LatencyConfig) -> None:
    order: list[str] = []

    def script(name: str) -> Callable[[int], TimedCall]:
        def call(number: int) -> TimedCall:
            order.append(name)
            return TimedCall(1.0, True)

        return call

    measure_sessions([ScriptedSession(script(name)) for name in "ab"], conditions, protocol=quick)
    turns = [name for index, name in enumerate(order) if index == 0 or order[index - 1] != name]
    assert turns == ["a", "b"] * (quick.rounds + 1)


def test_the_machines_speed_is_taken_out(conditions: Conditions) -> None:
    """A machine that slows down to a third in the middle: the time in units of the reference stays what it is."""
    protocol = LatencyConfig(rounds=6, round_ms=0.1, warmup_ms=0.1, repeats=0, correction_networks=0)
    clock = 0

    def slowed(duration_ms: float) -> Callable[[int], TimedCall]:
        def call(number: int) -> TimedCall:
            nonlocal clock
            clock += 1
            return TimedCall(duration_ms * (3.0 if clock > 27 else 1.0), True)

        return call

    session, reference = ScriptedSession(slowed(8.0)), ScriptedSession(slowed(2.0))
    (measurement,) = measure_sessions([session], conditions, protocol=protocol, reference=reference)
    assert measurement.relative == pytest.approx(4.0, rel=0.02)
    assert measurement.at_speed(2.0) == pytest.approx(8.0, rel=0.02)
    assert measurement.reference_ms is not None and 2.0 < measurement.reference_ms < 6.0
    assert measurement.median_ms == pytest.approx(24.0)


def test_without_a_reference_there_is_no_machine_speed(conditions: Conditions, quick: LatencyConfig) -> None:
    (measurement,) = measure_sessions([ScriptedSession(lambda _: TimedCall(1.0, True))], conditions, protocol=quick)
    assert measurement.reference_ms is None and measurement.relative is None
    with pytest.raises(ValueError, match="has no reference; pass one to measure_sessions"):
        measurement.at_speed(1.0)


def test_a_slower_operator_measures_slower(conditions: Conditions) -> None:
    protocol = LatencyConfig(rounds=5, round_ms=5, warmup_ms=2, correction_networks=0)
    runner = OnnxRuntimeRunner(threads=1)
    small, large = (
        runner.prepare(nn.Conv2d(channels, channels, 3, padding=1), (1, channels, 32, 32)) for channels in (16, 64)
    )
    slow, fast = measure_sessions([large, small], conditions, protocol=protocol)
    assert slow.median_ms > 2 * fast.median_ms


def test_the_clock_is_right(conditions: Conditions) -> None:
    """A sleep lasts at least as long as asked for; the quickest of several not much longer, on a busy machine too."""
    calls = time_on_host(lambda: time.sleep(0.01), 10)
    assert 9.5 < min(call.duration_ms for call in calls) < 100


@pytest.mark.parametrize("rounds", [3, 6])
def test_rounds_are_recorded(conditions: Conditions, rounds: int) -> None:
    protocol = LatencyConfig(rounds=rounds, round_ms=0.1, warmup_ms=0.1, correction_networks=0)
    (measurement,) = measure_sessions([ScriptedSession(lambda _: TimedCall(1.0, True))], conditions, protocol=protocol)
    assert measurement.rounds == rounds and measurement.to_dict()["conditions"]["runner"] == "onnxruntime"


def test_a_long_call_counts_though_it_was_interrupted(conditions: Conditions, quick: LatencyConfig) -> None:
    session = ScriptedSession(lambda _: TimedCall(80.0, undisturbed=False))
    (measurement,) = measure_sessions([session], conditions, protocol=quick)
    assert measurement.stable and measurement.disturbed_count == 0 and measurement.median_ms == 80.0
    assert session.calls == 2 + quick.rounds, "a call that fills the caches by itself needs none before it"


def test_each_session_keeps_the_conditions_of_its_runner(conditions: Conditions, quick: LatencyConfig) -> None:
    other = dataclasses.replace(conditions, runner="openvino")
    sessions = [ScriptedSession(lambda _: TimedCall(1.0, True)) for _ in range(2)]
    measured = measure_sessions(sessions, [conditions, other], protocol=quick)
    assert [measurement.conditions.runner for measurement in measured] == ["onnxruntime", "openvino"]


def test_the_reference_is_timed_between_long_turns(conditions: Conditions, quick: LatencyConfig) -> None:
    """A machine whose speed changes from turn to turn: each session is held against the reference around its turn."""
    slowdown = 1.0
    order: list[float] = []

    def reference_call(_: int) -> TimedCall:
        order.append(slowdown)
        return TimedCall(slowdown, True)

    def slow_turn(_: int) -> TimedCall:
        time.sleep(SPEED_INTERVAL_S)
        return TimedCall(10.0 * slowdown, True)

    sessions = [ScriptedSession(slow_turn), ScriptedSession(slow_turn)]
    measured = measure_sessions(sessions, conditions, protocol=quick, reference=ScriptedSession(reference_call))
    assert [measurement.relative for measurement in measured] == [10.0, 10.0]
    calls_per_mark, marks_per_round = 1 + REFERENCE_CALLS, 3
    assert len(order) == 2 + calls_per_mark * marks_per_round * quick.rounds


@pytest.mark.parametrize(("longest_ms", "rounds"), [(1e6, 20), (1000.0, 10), (1.0, 5)])
def test_a_slow_session_has_fewer_rounds_but_not_less_than_five(
    conditions: Conditions, longest_ms: float, rounds: int
) -> None:
    protocol = LatencyConfig(rounds=20, round_ms=1, warmup_ms=1, longest_ms=longest_ms, correction_networks=0)
    (measurement,) = measure_sessions(
        [ScriptedSession(lambda _: TimedCall(100.0, True))], conditions, protocol=protocol
    )
    assert measurement.rounds == rounds


@pytest.mark.parametrize(("rounds", "duration_ms"), [(5, 2.0), (7, 60.0), (11, 0.5)])
def test_a_gpu_is_warmed_up_for_longer_and_timed_a_hundred_times(
    conditions: Conditions, rounds: int, duration_ms: float
) -> None:
    protocol = LatencyConfig(rounds=rounds, round_ms=1, warmup_ms=1, correction_networks=0)
    session = ScriptedSession(lambda _: TimedCall(duration_ms, True))
    on_a_gpu = dataclasses.replace(conditions, device="cuda")
    (measurement,) = measure_sessions([session], on_a_gpu, protocol=protocol)
    assert measurement.warmup_count * duration_ms >= CUDA_WARMUP_MS
    assert measurement.count >= CUDA_CALLS and measurement.rounds >= 5


def test_the_reference_is_timed_like_any_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # here the reference is the one that users have
    session = reference_session(OnnxRuntimeRunner(threads=1))
    assert session.input_shape == (1, 64, 64, 128)
    assert all(call.duration_ms > 0.01 for call in session.time_calls(3))
