import numpy as np
import pytest

from fasterseg.networks import SpaceConfig
from latency.correction import Correction, NetworkSample, correction_architectures, fit_correction


def samples(count: int, *, slope: float, per_operator: float, constant: float, noise: float) -> list[NetworkSample]:
    generator = np.random.default_rng(0)
    made = []
    for _ in range(count):
        sum_ms, operators = generator.uniform(1, 5), int(generator.integers(15, 30))
        exact = slope * sum_ms + per_operator * operators + constant
        made.append(NetworkSample(sum_ms, operators, exact * (1 + generator.normal(0, noise))))
    return made


def test_recovers_a_linear_relation() -> None:
    made = samples(20, slope=1.1, per_operator=-0.008, constant=0.05, noise=0.0)
    fit = fit_correction(made, smallest_entry_ms=0.01)
    assert fit.slope == pytest.approx(1.1, rel=1e-3)
    assert fit.per_operator_ms == pytest.approx(-0.008, rel=1e-2)
    assert fit.constant_ms == pytest.approx(0.05, rel=1e-2)
    assert fit.networks == 20 and fit.largest_error is not None and fit.largest_error < 1e-3


def test_the_error_is_that_of_networks_not_fitted_on() -> None:
    fit = fit_correction(samples(40, slope=1.0, per_operator=0, constant=0, noise=0.05), smallest_entry_ms=0.01)
    assert fit.mean_error is not None and fit.largest_error is not None
    assert 0.02 < fit.mean_error < 0.08 and fit.largest_error > fit.mean_error


def test_one_disturbed_network_does_not_spoil_the_fit() -> None:
    made = samples(20, slope=1.1, per_operator=0.0, constant=0.1, noise=0.005)
    made[3] = made[3]._replace(scaled_ms=made[3].scaled_ms * 2)
    fit = fit_correction(made, smallest_entry_ms=0.01)
    errors = [abs(fit.apply(sample.sum_ms, sample.operators) / sample.scaled_ms - 1) for sample in made]
    assert np.median(errors) < 0.02


def test_no_operator_makes_a_prediction_smaller() -> None:
    made = samples(20, slope=1.0, per_operator=-0.05, constant=1.0, noise=0.01)
    fit = fit_correction(made, smallest_entry_ms=0.01)
    assert fit.slope * 0.01 + fit.per_operator_ms >= -1e-9 and fit.constant_ms >= 0


def test_architectures_are_those_of_the_seed(space: SpaceConfig) -> None:
    assert correction_architectures(space, 6, seed=1) == correction_architectures(space, 6, seed=1)
    assert correction_architectures(space, 6, seed=1) != correction_architectures(space, 6, seed=2)


def test_what_is_dearer_alone_than_in_a_network_comes_off_the_constant() -> None:
    fit = fit_correction(samples(20, slope=1.0, per_operator=0.0, constant=-0.2, noise=0.0), smallest_entry_ms=0.01)
    assert fit.constant_ms == pytest.approx(-0.2, abs=0.01) and fit.largest_error == pytest.approx(0, abs=1e-3)


def test_the_constant_leaves_every_prediction_positive() -> None:
    made = samples(20, slope=2.0, per_operator=0.0, constant=-1.5, noise=0.0)
    fit = fit_correction(made, smallest_entry_ms=0.01)
    assert fit.constant_ms >= -0.25 * min(sample.scaled_ms for sample in made) - 1e-6


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
