"""From the sum of a table's entries to a network's time: a correction fitted on measured random networks.

An operator that runs alone finds its map in the cache and pays for a call of its own; in a network it does neither.
What that changes is close to linear in the sum and in the number of operators, so the prediction stays a linear
function, which the search's expected latency can use as it is.
"""

import random
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic.dataclasses import dataclass as validated
from scipy.optimize import least_squares

from fasterseg.networks.architecture import Architecture
from fasterseg.networks.sampling import random_architecture
from fasterseg.networks.space import SpaceConfig
from latency.config import STRICT, Count, Finite, NotNegative, Positive

_FOLDS = 5
_OUTLIER_SCALE = 0.03
# the constant may be negative, down to this share of the fastest measured network's time
_MOST_SAVED = 0.25


@validated(frozen=True, config=STRICT)
class Correction:
    """From the sum of a network's entries to its time: slope · Σ + per_operator_ms · n + constant_ms.

    Attributes:
        slope: a; above 1 where a network's maps are colder than an operator's that runs alone.
        per_operator_ms: b; negative where every entry carries the cost of a call of its own.
        constant_ms: c.
        networks: Random networks the fit was made on; 0 is the plain sum.
        mean_error: Cross-validated mean of |predicted / measured - 1|.
        largest_error: The largest of these.
        unsteady: Of these networks, how many had a time whose rounds disagreed; None where the table does not tell.
    """

    slope: Positive = 1.0
    per_operator_ms: Finite = 0.0
    constant_ms: Finite = 0.0
    networks: Count = 0
    mean_error: NotNegative | None = None
    largest_error: NotNegative | None = None
    unsteady: Count | None = None

    def apply(self, sum_ms: float, operators: float) -> float:
        """The predicted time of a network of `operators` operators whose entries sum to `sum_ms`."""
        return self.slope * sum_ms + self.per_operator_ms * operators + self.constant_ms

    def describe(self) -> str:
        """The fit and its error in one line."""
        if self.mean_error is None or self.largest_error is None:
            return "the plain sum of the entries; no correction was fitted"
        steadiness = "" if self.unsteady is None else f", {self.unsteady} of them with an unsteady time"
        return (
            f"{self.slope:.4g} * sum + {self.per_operator_ms:.4g} ms * operators + {self.constant_ms:.4g} ms, fitted "
            f"on {self.networks} random networks{steadiness}; cross-validated error {self.mean_error:.1%} on average, "
            f"{self.largest_error:.1%} at most"
        )


class NetworkSample(NamedTuple):
    """A measured network.

    Attributes:
        sum_ms: Sum of the entries of its operators.
        operators: How many these are.
        scaled_ms: Its measured time, scaled to the machine speed of the table.
    """

    sum_ms: float
    operators: int
    scaled_ms: float


def correction_architectures(space: SpaceConfig, count: int, *, seed: int) -> list[Architecture]:
    """The random student networks that a correction is fitted on."""
    generator = random.Random(seed)
    return [random_architecture(space, "student", generator) for _ in range(count)]


def fit_correction(samples: Sequence[NetworkSample], *, smallest_entry_ms: float) -> Correction:
    """Fits slope · Σ + per_operator_ms · n + constant_ms to measured networks, robustly and in relative terms.

    Args:
        samples: The measured networks; at least 6.
        smallest_entry_ms: The cheapest operator's time: the most that a call by itself can cost.

    Returns:
        The fit on all samples with the error that it makes on samples it has not seen.
    """
    values = np.array(samples, dtype=np.float64)
    assert len(values) >= 6, "a fit of three coefficients needs at least 6 networks"
    errors = np.empty(len(values))
    for fold in range(_FOLDS):
        held_out = np.arange(len(values)) % _FOLDS == fold
        coefficients = _fit(values[~held_out], smallest_entry_ms)
        errors[held_out] = np.abs(_predict(coefficients, values[held_out]) / values[held_out, 2] - 1)
    slope, per_operator_ms, constant_ms = (float(f"{value:.6g}") for value in _fit(values, smallest_entry_ms))
    return Correction(
        slope=slope,
        per_operator_ms=per_operator_ms,
        constant_ms=constant_ms,
        networks=len(values),
        mean_error=float(f"{errors.mean():.4g}"),
        largest_error=float(f"{errors.max():.4g}"),
    )


def _predict(coefficients: npt.NDArray[np.float64], values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    slope, per_operator_ms, constant_ms = coefficients
    predicted: npt.NDArray[np.float64] = slope * values[:, 0] + per_operator_ms * values[:, 1] + constant_ms
    return predicted


def _fit(values: npt.NDArray[np.float64], smallest_entry_ms: float) -> npt.NDArray[np.float64]:
    """Least squares of the relative error; a network that the machine disturbed weighs less than its square.

    Fitted as a · (Σ - n · smallest entry) + b · n + c with a, b ≥ 0, so that no operator can make a predicted
    network faster. The constant may be negative: what every network has, such as the final resize, can be dearer
    alone than in a network, where it finds its map in the layout it wants.
    """
    scaled_ms, scale = values[:, 2], float(values[:, 2].mean())
    beyond_smallest = values[:, 0] - smallest_entry_ms * values[:, 1]
    terms = np.stack([beyond_smallest, values[:, 1], np.ones(len(values))], axis=1) / scaled_ms[:, None]

    def relative_errors(coefficients: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        errors: npt.NDArray[np.float64] = terms @ coefficients - 1
        return errors

    fit = least_squares(
        relative_errors,
        x0=[1.0, smallest_entry_ms, 0.0],
        bounds=([0, 0, -_MOST_SAVED * float(scaled_ms.min())], np.inf),
        loss="soft_l1",
        f_scale=_OUTLIER_SCALE,
        x_scale=[1.0, smallest_entry_ms, scale],
    )
    slope, per_operator_ms, constant_ms = fit.x
    return np.array([slope, per_operator_ms - slope * smallest_entry_ms, constant_ms])
