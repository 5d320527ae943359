"""A latency measurement without measuring."""

from dataclasses import replace

from latency.runners.base import Conditions
from latency.timing import LatencyMeasurement


def made_up_measurement(median_ms: float, conditions: Conditions, **changes: object) -> LatencyMeasurement:
    """A steady one of a 64x96 image; `changes` are fields of `LatencyMeasurement`."""
    usual = LatencyMeasurement(
        median_ms=median_ms,
        p95_ms=median_ms,
        spread=0.01,
        count=9,
        disturbed_count=0,
        rounds=3,
        warmup_count=2,
        attempts=1,
        stable=True,
        input_shape=(1, 3, 64, 96),
        conditions=conditions,
    )
    return replace(usual, **changes)
