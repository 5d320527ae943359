import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from fasterseg.networks import Architecture, SpaceConfig
from latency import validate
from latency.config import LatencyConfig, TargetConfig
from latency.correction import Correction, correction_architectures
from latency.runners.base import Conditions
from latency.table import LatencyTable
from latency.timing import LatencyMeasurement
from latency.validate import (
    Agreement,
    AgreementBounds,
    find_outliers,
    held_out_architectures,
    score_agreement,
    validate_table,
)
from tests.made_up_measurement import made_up_measurement


def test_scores_are_what_their_names_say() -> None:
    generator = np.random.default_rng(0)
    measured = generator.uniform(10, 20, 30)
    predicted = measured * (1 + generator.normal(0.01, 0.02, 30))
    scores = score_agreement(predicted.tolist(), measured.tolist())
    errors = [p / m - 1 for p, m in zip(predicted, measured, strict=True)]
    assert scores.mape == pytest.approx(sum(map(abs, errors)) / 30)
    assert scores.largest == pytest.approx(max(map(abs, errors)))
    assert scores.bias == pytest.approx(sum(errors) / 30)
    assert scores.pearson == pytest.approx(np.corrcoef(predicted, measured)[0, 1])
    ranks = [np.argsort(np.argsort(values)) for values in (predicted, measured)]
    assert scores.spearman == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert scores.kendall == pytest.approx(stats.kendalltau(predicted, measured).statistic)


def test_a_perfect_prediction_misses_nothing() -> None:
    scores = score_agreement([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    assert scores.missed(AgreementBounds(mape=0.0, largest=0.0, spearman=1.0 - 1e-12)) == []


def test_missed_bounds_are_named_with_both_figures() -> None:
    scores = Agreement(mape=0.03, largest=0.09, bias=0.0, pearson=0.9, spearman=0.98, kendall=0.9)
    assert scores.missed(AgreementBounds()) == []
    assert scores.missed(AgreementBounds(mape=0.02, largest=0.08, spearman=0.99)) == [
        "mean error 3.00% is above 2.00%",
        "largest error 9.00% is above 8.00%",
        "Spearman correlation 0.9800 is below 0.9900",
    ]


def test_an_undefined_score_misses_its_bound() -> None:
    scores = Agreement(mape=float("nan"), largest=0.0, bias=0.0, pearson=0.0, spearman=float("nan"), kendall=0.0)
    assert len(scores.missed(AgreementBounds(mape=0.02, spearman=0.9))) == 2


@pytest.fixture
def fitted(table: LatencyTable, conditions: Conditions) -> LatencyTable:
    protocol = table.protocol.model_copy(update={"correction_networks": 12})
    correction = Correction(1.1, 0.001, 0.01, networks=12, mean_error=0.01, largest_error=0.02)
    return replace(table, protocol=protocol, correction=correction)


class Machine:
    """A machine on which networks take what the table predicts, times a factor for each measurement."""

    def __init__(self, table: LatencyTable, factors: list[float], *, unsteady: tuple[int, ...] = ()) -> None:
        self.table = table
        self.unsteady = unsteady
        self.protocol: object = None
        self.factors = iter(factors)
        self.measured: list[Architecture] = []

    def measure(
        self, architectures: list[Architecture], *, protocol: LatencyConfig, **_: object
    ) -> list[LatencyMeasurement]:
        self.measured += architectures
        self.protocol = protocol
        return [
            self._measurement(
                self.table.predict_architecture(each) * next(self.factors),
                stable=self.measured.index(each) not in self.unsteady,
            )
            for each in architectures
        ]

    def _measurement(self, time_ms: float, *, stable: bool) -> LatencyMeasurement:
        return made_up_measurement(
            2 * time_ms,
            self.table.conditions,
            p95_ms=3 * time_ms,
            stable=stable,
            reference_ms=2 * self.table.reference_ms,
            relative=time_ms / self.table.reference_ms,
        )


def run_on(
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    target: TargetConfig,
    count: int,
    *,
    protocol: LatencyConfig | None = None,
) -> validate.Validation:
    runner = SimpleNamespace(conditions=lambda: machine.table.conditions)
    monkeypatch.setattr(validate, "build_runner", lambda _: SimpleNamespace(runner=runner))
    monkeypatch.setattr(validate, "measure_networks", machine.measure)
    table = machine.table
    return validate_table(table, target, space=table.space, protocol=protocol or table.protocol, count=count)


def test_held_out_networks_are_not_those_of_the_fit(space: SpaceConfig) -> None:
    fitted = correction_architectures(space, 40, seed=3)
    held_out = held_out_architectures(space, 50, seed=3, fitted=fitted)
    assert len(set(held_out)) == 50 and not set(held_out) & set(fitted)
    assert held_out == held_out_architectures(space, 50, seed=3, fitted=fitted)
    assert held_out != held_out_architectures(space, 50, seed=4, fitted=fitted)
    left_out = held_out[:10]
    assert not set(held_out_architectures(space, 50, seed=3, fitted=left_out)) & set(left_out)


def test_a_space_with_too_few_networks_says_so() -> None:
    tiny = SpaceConfig(
        layers=5, base_channels=2, widths=(1.0,), student_width=1.0, operators=("skip", "conv"), teacher_width=1.0
    )
    with pytest.raises(ValueError, match=r"too few networks for a validation with 5000 .* use a smaller --count"):
        held_out_architectures(tiny, 5000, seed=0, fitted=[])


def test_times_are_compared_at_the_tables_machine_speed(
    fitted: LatencyTable, target: TargetConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine takes twice as long as when the table was measured, and so does the reference."""
    validation = run_on(Machine(fitted, [1.0] * 8), monkeypatch, target, 8)
    assert validation.scores.largest == pytest.approx(0, abs=1e-9) and validation.measured_again == 0
    assert [network.raw_ms for network in validation.networks] == pytest.approx(
        [2 * network.measured_ms for network in validation.networks]
    )


def test_an_outlier_is_measured_again_once_and_told_beside_the_first(
    fitted: LatencyTable, target: TargetConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    factors = [1.01, 1.0, 1.5, 0.99, 1.0, 1.01, 0.99, 2.0, 1.01, 1.8]
    machine = Machine(fitted, factors)
    validation = run_on(machine, monkeypatch, target, 8)
    assert machine.measured[8:] == [machine.measured[2], machine.measured[7]]
    again = {network.index: network for network in validation.networks if network.measured_again_ms is not None}
    assert set(again) == {2, 7}
    assert again[2].error == pytest.approx(1 / 1.5 - 1) and again[7].error == pytest.approx(1 / 2.0 - 1)
    second_errors = [each.predicted_ms / (each.measured_again_ms or 0) - 1 for each in again.values()]
    assert second_errors == pytest.approx([1 / 1.01 - 1, 1 / 1.8 - 1])
    assert validation.scores.largest == pytest.approx(0.5) and validation.scores_with_repeats.largest < 0.45
    lines = validation.describe().splitlines()
    assert lines[0].endswith(validation.scores.describe()), "the first measurement leads"
    assert lines[2] == (
        "2 outlier(s) measured again; with the second time in place of the first: "
        f"{validation.scores_with_repeats.describe()}"
    )
    data = validation.to_dict()
    assert data["scores"]["largest"] == pytest.approx(0.5) and data["scores_with_repeats"]["largest"] < 0.45
    rows = list(csv.DictReader(io.StringIO(validation.to_csv())))
    assert [row["index"] for row in rows if row["measured_again_ms"]] == ["2", "7"]
    assert float(rows[7]["error"]) == pytest.approx(-0.5, rel=1e-4)


def test_what_is_written(
    fitted: LatencyTable, target: TargetConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    validation = run_on(Machine(fitted, [1.0, 1.01, 0.99, 1.02, 1.0]), monkeypatch, target, 5)
    paths = validation.save(tmp_path)
    stem = "latency_validate_onnxruntime_64x96"
    assert [path.name for path in paths] == [f"{stem}.csv", f"{stem}.json", f"{stem}.png"]
    rows = list(csv.DictReader(io.StringIO(paths[0].read_text())))
    assert len(rows) == 5 and float(rows[1]["error"]) == pytest.approx(1 / 1.01 - 1, rel=1e-4)
    data = json.loads(paths[1].read_text())
    assert data["scores"]["mape"] == pytest.approx(validation.scores.mape)
    assert data["correction"]["mean_error"] == 0.01 and data["conditions"]["device_name"] == "a processor"


def test_outliers_are_few_and_far() -> None:
    assert find_outliers([0.001, -0.002, 0.015, 0.001]) == [], "2 % is no outlier"
    assert find_outliers([0.01, -0.01, 0.05, 0.012, -0.06]) == [2, 4]
    assert find_outliers([0.1, -0.1, 0.12, 0.09]) == [], "a wrong table has no outliers"


def test_a_table_of_another_machine_or_target_is_refused(
    fitted: LatencyTable, target: TargetConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    own: dict[str, Any] = {"space": fitted.space, "protocol": fitted.protocol}
    with pytest.raises(ValueError, match="was measured for another target: threads 1"):
        validate_table(fitted, target.model_copy(update={"threads": 2}), **own, count=5)
    with pytest.raises(ValueError, match="was measured on another machine"):
        validate_table(fitted, target, **own, count=5)
    with pytest.raises(ValueError, match="too few to correlate"):
        validate_table(fitted, target, **own, count=2)


def test_a_space_or_protocol_that_is_not_the_tables_is_refused(
    fitted: LatencyTable, target: TargetConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    wider = fitted.space.model_copy(update={"layers": 9})
    with pytest.raises(ValueError, match=r"for another target: space\.layers 8 \(asked for: 9\)"):
        validate_table(fitted, target, space=wider, protocol=fitted.protocol, count=5)
    machine = Machine(fitted, [1.0] * 5)
    with pytest.raises(ValueError, match=r"was measured another way: latency\.round_ms 0\.2 \(asked for: 5\.0\)"):
        run_on(machine, monkeypatch, target, 5, protocol=fitted.protocol.model_copy(update={"round_ms": 5.0}))
    for field, value in (("network_rounds", 31), ("seed", 4), ("correction_networks", 30)):
        changed = fitted.protocol.model_copy(update={field: value})
        with pytest.raises(
            ValueError, match=rf"lacks a correction fitted on .*latency\.{field} {value}.*--only-missing"
        ):
            run_on(machine, monkeypatch, target, 5, protocol=changed)
    assert not machine.measured


def test_without_a_correction_the_rounds_asked_for_are_taken(
    table: LatencyTable, target: TargetConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine, more = Machine(table, [1.0] * 5), table.protocol.model_copy(update={"network_rounds": 31})
    validation = run_on(machine, monkeypatch, target, 5, protocol=more)
    assert machine.protocol == more and validation.to_dict()["protocol"]["network_rounds"] == 31


def test_unsteady_networks_are_counted_and_marked(
    fitted: LatencyTable, target: TargetConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(fitted, [1.0, 1.01, 0.99, 1.02, 1.0], unsteady=(1, 3))
    validation = run_on(machine, monkeypatch, target, 5)
    assert "2 of them had an unsteady time (spread above 10%" in validation.describe()
    assert validation.to_dict()["unsteady"] == 2
    rows = list(csv.DictReader(io.StringIO(validation.to_csv())))
    assert [row["stable"] for row in rows] == ["yes", "NO", "yes", "NO", "yes"]


def test_another_mode_or_precision_does_not_replace_the_files(
    fitted: LatencyTable, target: TargetConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    validation = run_on(Machine(fitted, [1.0, 1.01, 0.99, 1.02, 1.0]), monkeypatch, target, 5)
    of_pytorch = replace(fitted.conditions, runner="pytorch", mode="channels_last", precision="bf16")
    paths = replace(validation, table=replace(fitted, conditions=of_pytorch)).save(tmp_path)
    assert paths[0].name == "latency_validate_pytorch_channels_last_bf16_64x96.csv"
