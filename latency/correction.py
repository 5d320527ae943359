"""From the sum of entries to a network's time: a correction fitted on measured random networks.

An operator that runs alone finds its map in the cache and pays for a call of its own; in a network it does neither.
What that changes is close to linear in the sum and in the number of operators, so the prediction stays a linear
function, which the search's expected latency can use as it is.
"""

import random
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import least_squares

from fasterseg.base.console import epoch_progress
from fasterseg.networks.architecture import Architecture
from fasterseg.networks.families import AnyArchitecture, build_network, network_specs
from fasterseg.networks.network import DeployedNetwork
from fasterseg.networks.resizing import Size
from fasterseg.networks.space import SpaceConfig
from latency.config import LatencyConfig
from latency.pace import reference_session
from latency.records import Correction
from latency.runners import Runner
from latency.sampling import random_architecture
from latency.table import LatencyTable
from latency.timing import LatencyMeasurement, groups, measure_sessions

_FOLDS = 5
_OUTLIER_SCALE = 0.03
# how much of the fastest measured network the constant may take off
_MOST_SAVED = 0.25


class NetworkSample(NamedTuple):
    """A measured network.

    Attributes:
        sum_ms: Sum of the entries of its operators.
        operators: How many these are.
        measured_ms: Its measured time at the table's pace.
    """

    sum_ms: float
    operators: int
    measured_ms: float


def correction_architectures(space: SpaceConfig, count: int, *, seed: int) -> list[Architecture]:
    """The random student networks that a correction is fitted on."""
    generator = random.Random(seed)
    return [random_architecture(space, "student", generator) for _ in range(count)]


def measure_correction(table: LatencyTable, *, runner: Runner, protocol: LatencyConfig) -> Correction:
    """The correction of a complete table, from random networks of its space; the plain sum where none are asked for."""
    if protocol.correction_networks == 0:
        return Correction()
    architectures = correction_architectures(table.space, protocol.correction_networks, seed=protocol.seed)
    measurements = measure_networks(
        architectures,
        runner=runner,
        protocol=protocol,
        num_classes=table.target.num_classes,
        input_size=table.target.input_size,
    )
    samples = [network_sample(table, *pair) for pair in zip(architectures, measurements, strict=True)]
    fit = fit_correction(samples, smallest_entry_ms=min(entry.median_ms for entry in table.entries.values()))
    return replace(fit, unsteady=sum(not measurement.stable for measurement in measurements))


def network_sample(
    table: LatencyTable, architecture: AnyArchitecture, measurement: LatencyMeasurement
) -> NetworkSample:
    """A measured network beside the sum of its entries."""
    specs = network_specs(architecture, table.target.num_classes, input_size=table.target.input_size)
    return NetworkSample(table.sum_ms(specs), len(specs), measurement.at_pace(table.reference_ms))


def measure_networks(
    architectures: Sequence[AnyArchitecture],
    *,
    runner: Runner,
    protocol: LatencyConfig,
    num_classes: int,
    input_size: Size,
) -> list[LatencyMeasurement]:
    """Measures networks whole, as they are deployed, with the machine's pace beside them."""
    measurements: list[LatencyMeasurement] = []
    with epoch_progress("whole networks", len(architectures)) as progress, reference_session(runner) as reference:
        for group in groups(architectures, protocol.interleave):
            with ExitStack() as stack:
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(protocol.seed)
                    networks = [deployed_network(architecture, num_classes) for architecture in group]
                sessions = [stack.enter_context(runner.prepare(network, (1, 3, *input_size))) for network in networks]
                measurements += measure_sessions(
                    sessions, runner.conditions(), protocol=protocol.for_networks(), reference=reference
                )
            progress.advance(len(group))
    return measurements


def deployed_network(architecture: AnyArchitecture, num_classes: int) -> DeployedNetwork:
    """The network with fresh weights as it is deployed; times do not depend on the weights."""
    return DeployedNetwork(build_network(architecture, num_classes)).eval()


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
    measured_ms, scale = values[:, 2], float(values[:, 2].mean())
    beyond_smallest = values[:, 0] - smallest_entry_ms * values[:, 1]
    terms = np.stack([beyond_smallest, values[:, 1], np.ones(len(values))], axis=1) / measured_ms[:, None]

    def relative_errors(coefficients: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        errors: npt.NDArray[np.float64] = terms @ coefficients - 1
        return errors

    fit = least_squares(
        relative_errors,
        x0=[1.0, smallest_entry_ms, 0.0],
        bounds=([0, 0, -_MOST_SAVED * float(measured_ms.min())], np.inf),
        loss="soft_l1",
        f_scale=_OUTLIER_SCALE,
        x_scale=[1.0, smallest_entry_ms, scale],
    )
    slope, per_operator_ms, constant_ms = fit.x
    return np.array([slope, per_operator_ms - slope * smallest_entry_ms, constant_ms])
