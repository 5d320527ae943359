import pytest

from fasterseg.networks.specs import HeadSpec
from latency.config import LatencyConfig
from latency.pace import reference_session
from latency.records import Correction, TableEntry, entry_from_data, entry_to_data
from latency.runners.onnxruntime import OnnxRuntimeRunner
from latency.timing import measure_sessions

SPEC = HeadSpec(in_channels=4, height=8, width=12, num_classes=3)
ENTRY = TableEntry(median_ms=1.0, p95_ms=1.5, spread=0.02, count=30, disturbed_count=2, stable=True, reference_ms=0.5)


def test_records_round_trip() -> None:
    assert entry_from_data(entry_to_data(SPEC, ENTRY)) == (SPEC, ENTRY)


def test_an_entry_at_another_pace() -> None:
    slower = ENTRY.at_pace(0.6)
    assert (slower.median_ms, slower.p95_ms) == pytest.approx((1.2, 1.8))


def test_an_entry_of_a_measurement(quick: LatencyConfig) -> None:
    runner = OnnxRuntimeRunner(threads=1)
    session = runner.prepare(SPEC.build(), SPEC.input_shape())
    (measurement,) = measure_sessions(
        [session], runner.conditions(), protocol=quick, reference=reference_session(runner)
    )
    entry = TableEntry.of(measurement)
    assert measurement.relative is not None
    assert entry.median_ms == pytest.approx(measurement.relative * entry.reference_ms, rel=1e-4)
    assert entry.p95_ms >= entry.median_ms and entry.count == measurement.count


@pytest.mark.parametrize("data", [None, 3, [], {"median_ms": 1.0}])
def test_what_is_no_record_is_refused(data: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        entry_from_data(data)


def test_the_correction_is_linear() -> None:
    correction = Correction(slope=1.2, per_operator_ms=-0.01, constant_ms=0.1)
    assert correction.apply(10.0, 20) == pytest.approx(12.0 - 0.2 + 0.1)
    assert Correction().apply(10.0, 20) == 10.0


def test_a_correction_says_how_good_it_is() -> None:
    fitted = Correction(1.2, -0.01, 0.1, networks=30, mean_error=0.012, largest_error=0.034)
    assert fitted.describe() == (
        "1.2 * sum + -0.01 ms * operators + 0.1 ms, fitted on 30 random networks; cross-validated error 1.2% on "
        "average, 3.4% at most"
    )
    assert "no correction was fitted" in Correction().describe()
    with_count = Correction(1.2, -0.01, 0.1, networks=30, mean_error=0.012, largest_error=0.034, unsteady=4)
    assert "fitted on 30 random networks, 4 of them with an unsteady time; cross" in with_count.describe()
