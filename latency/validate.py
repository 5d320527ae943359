"""Validation: random networks that no fit has seen, measured whole and held against the table's prediction.

The networks come from a separate random stream, and any that the correction was fitted on is left out. Measured times
are scaled to the machine speed of the table's entries, so that a machine that is slower today does not look like a
wrong table.

Outliers are measured once more, but the first measurement counts: repeating what does not fit favours the prediction.
The scores with repeated times are told beside the scores.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from fasterseg.base.files import write_text
from fasterseg.base.text import csv_text
from fasterseg.networks.architecture import Architecture
from fasterseg.networks.sampling import random_architecture
from fasterseg.networks.space import SpaceConfig
from latency.config import LatencyConfig, TargetConfig
from latency.correction import correction_architectures
from latency.measure import measure_networks, network_sample
from latency.results import plot_validation, save_figure
from latency.runners.base import Runner
from latency.runners.selection import build_runner
from latency.table import LatencyTable
from latency.timing import LatencyMeasurement

_FRUITLESS_DRAWS = 500
_OUTLIER_FACTOR = 3.0
_SMALLEST_OUTLIER = 0.02


@dataclass(frozen=True)
class AgreementBounds:
    """What predictions have to reach; None leaves a figure unbounded.

    Attributes:
        mape: The largest mean of |predicted / measured - 1|.
        largest: The largest single one.
        spearman: The smallest rank correlation.
    """

    mape: float | None = None
    largest: float | None = None
    spearman: float | None = None


@dataclass(frozen=True)
class Agreement:
    """How predictions agree with measured times.

    Attributes:
        mape: Mean of |predicted / measured - 1|.
        largest: The largest of these.
        bias: Mean of predicted / measured - 1.
        pearson: Correlation.
        spearman: Correlation of the ranks.
        kendall: Kendall's tau of the ranks.
    """

    mape: float
    largest: float
    bias: float
    pearson: float
    spearman: float
    kendall: float

    def missed(self, bounds: AgreementBounds) -> list[str]:
        """The bounds that are missed, each with what was reached."""
        misses = []
        if bounds.mape is not None and not self.mape <= bounds.mape:
            misses.append(f"mean error {self.mape:.2%} is above {bounds.mape:.2%}")
        if bounds.largest is not None and not self.largest <= bounds.largest:
            misses.append(f"largest error {self.largest:.2%} is above {bounds.largest:.2%}")
        if bounds.spearman is not None and not self.spearman >= bounds.spearman:
            misses.append(f"Spearman correlation {self.spearman:.4f} is below {bounds.spearman:.4f}")
        return misses

    def describe(self) -> str:
        """The scores in one line."""
        return (
            f"mean error {self.mape:.2%}, largest {self.largest:.2%}, bias {self.bias:+.2%}; "
            f"Pearson {self.pearson:.4f}, Spearman {self.spearman:.4f}, Kendall {self.kendall:.4f}"
        )


def score_agreement(predicted_ms: Sequence[float], measured_ms: Sequence[float]) -> Agreement:
    """The agreement of predictions with measured times, one of each per network."""
    predicted, measured = np.asarray(predicted_ms), np.asarray(measured_ms)
    errors = predicted / measured - 1
    return Agreement(
        mape=float(np.abs(errors).mean()),
        largest=float(np.abs(errors).max()),
        bias=float(errors.mean()),
        pearson=float(stats.pearsonr(predicted, measured).statistic),
        spearman=float(stats.spearmanr(predicted, measured).statistic),
        kendall=float(stats.kendalltau(predicted, measured).statistic),
    )


@dataclass(frozen=True)
class HeldOutNetwork:
    """One network of a validation.

    Attributes:
        index: Its position in the random stream.
        ends: Output strides at which its branches end, such as `32+16`.
        operators: How many operators it has.
        sum_ms: Plain sum of the table's entries.
        predicted_ms: The table's prediction.
        measured_ms: Its measured time, scaled to the machine speed of the table; `NetworkSample` calls it `scaled_ms`,
            the files keep this name.
        raw_ms: Its measured time as the machine ran, not scaled.
        spread: Interquartile range of the rounds' medians over their median.
        stable: Whether that is within the bound, and every round had undisturbed calls.
        measured_again_ms: Second measured time of an outlier, scaled likewise; None where it was measured once.
    """

    index: int
    ends: str
    operators: int
    sum_ms: float
    predicted_ms: float
    measured_ms: float
    raw_ms: float
    spread: float
    stable: bool
    measured_again_ms: float | None = None

    @property
    def error(self) -> float:
        """Predicted over measured, less 1."""
        return self.predicted_ms / self.measured_ms - 1


@dataclass(frozen=True)
class Validation:
    """A validation's networks and scores.

    Attributes:
        networks: In the order of the random stream.
        table: What was validated.
        protocol: How the networks were measured.
    """

    networks: tuple[HeldOutNetwork, ...]
    table: LatencyTable
    protocol: LatencyConfig

    @property
    def scores(self) -> Agreement:
        """The scores of all networks as they were measured first."""
        return score_agreement(
            [network.predicted_ms for network in self.networks], [network.measured_ms for network in self.networks]
        )

    @property
    def scores_with_repeats(self) -> Agreement:
        """The scores with the second time of outliers in place of the first."""
        return score_agreement(
            [network.predicted_ms for network in self.networks],
            [network.measured_again_ms or network.measured_ms for network in self.networks],
        )

    @property
    def measured_again(self) -> int:
        """How many outliers were measured a second time."""
        return sum(network.measured_again_ms is not None for network in self.networks)

    @property
    def unsteady(self) -> int:
        """How many networks have a time whose rounds disagree."""
        return sum(not network.stable for network in self.networks)

    def describe(self) -> str:
        """Scores and conditions in a few lines."""
        lines = [
            f"{len(self.networks)} networks that the fit has not seen: {self.scores.describe()}",
            f"{self.unsteady} of them had an unsteady time (spread above {self.protocol.spread_bound:.0%}, or a round "
            "without an undisturbed call)",
        ]
        if self.measured_again:
            lines.append(
                f"{self.measured_again} outlier(s) measured again; with the second time in place of the first: "
                f"{self.scores_with_repeats.describe()}"
            )
        table = self.table
        lines += [
            f"{table.target.describe()}; {table.conditions.device_name}",
            f"correction of the table: {table.correction.describe()}",
        ]
        return "\n".join(lines)

    def to_csv(self) -> str:
        """One line per network."""
        return csv_text(
            [
                {**asdict(network), "stable": "yes" if network.stable else "NO", "error": network.error}
                for network in self.networks
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        """Scores, outliers and conditions as JSON-ready data."""
        table = self.table
        return {
            "networks": len(self.networks),
            "scores": asdict(self.scores),
            "unsteady": self.unsteady,
            "measured_again": self.measured_again,
            "scores_with_repeats": asdict(self.scores_with_repeats),
            "target": asdict(table.target),
            "conditions": table.conditions.to_dict(),
            "protocol": self.protocol.model_dump(mode="json"),
            "correction": asdict(table.correction),
            "table_created": table.created,
        }

    def save(self, folder: Path) -> list[Path]:
        """Writes `latency_validate_RUNNER_HEIGHTxWIDTH` as `.csv`, `.json` and `.png`; returns their paths.

        Behind the runner stands what of device, mode, precision and threads is not the usual (`setup_name`).
        """
        target = self.table.target
        stem = f"latency_validate_{self.table.conditions.setup_name}_{target.input_size[0]}x{target.input_size[1]}"
        csv_path, json_path, png_path = (folder / f"{stem}.{suffix}" for suffix in ("csv", "json", "png"))
        write_text(csv_path, self.to_csv())
        write_text(json_path, json.dumps(self.to_dict(), indent=2) + "\n")
        scaled_ms = [network.measured_ms for network in self.networks]
        predicted_ms = [network.predicted_ms for network in self.networks]
        save_figure(plot_validation(scaled_ms, predicted_ms, title=target.describe()), png_path)
        return [csv_path, json_path, png_path]


def held_out_architectures(
    space: SpaceConfig, count: int, *, seed: int, fitted: Sequence[Architecture]
) -> list[Architecture]:
    """Random students of a separate random stream, all different; none that a correction was fitted on.

    Args:
        space: The search space.
        count: How many.
        seed: Another seed, other networks.
        fitted: The networks to leave out.

    Raises:
        ValueError: The space has too few networks.
    """
    generator = random.Random(f"validation {seed}")
    known, drawn = set(fitted), dict[Architecture, None]()
    fruitless = 0
    while len(drawn) < count and fruitless < _FRUITLESS_DRAWS:
        architecture = random_architecture(space, "student", generator)
        fruitless = 0 if architecture not in known and architecture not in drawn else fruitless + 1
        if not fruitless:
            drawn[architecture] = None
    if len(drawn) == count:
        return list(drawn)
    raise ValueError(
        f"the space has too few networks for a validation with {count} of them: found {len(drawn)} beside the "
        f"{len(known)} that the correction was fitted on; use a smaller --count"
    )


def validate_table(
    table: LatencyTable, target: TargetConfig, *, space: SpaceConfig, protocol: LatencyConfig, count: int
) -> Validation:
    """Measures networks of a table's space that its correction has not seen; outliers are measured once more.

    An outlier is a network whose error is more than three times the median error (and above 2 %). Its first
    measurement counts; the second is kept beside it.

    Args:
        table: What to validate.
        target: The target, which has to be the table's.
        space: The space, likewise.
        protocol: How to measure, which has to be how the table was measured and its correction fitted.
        count: How many networks; at least 3.

    Raises:
        ValueError: The table is of another target, space, machine or protocol, or the space has too few networks.
    """
    if count < 3:
        raise ValueError(f"--count is {count}: too few to correlate; use 3 or more")
    table.check_target(target, space=space)
    table.check_protocol(protocol)
    if not table.has_correction_of(protocol):
        raise ValueError(table.describe_lack((), protocol))
    of_table = {"runner": table.target.runner, "device": table.target.device, "mode": table.target.mode}
    runner = build_runner(target.model_copy(update=of_table)).runner
    table.check_machine(runner.conditions())
    fitted = correction_architectures(table.space, table.correction.networks, seed=table.protocol.seed)
    architectures = held_out_architectures(table.space, count, seed=protocol.seed, fitted=fitted)
    assert not set(architectures) & set(fitted)
    networks = _measure(table, runner, list(enumerate(architectures)), protocol=protocol)
    outliers = find_outliers([network.error for network in networks])
    repeated = _measure(table, runner, [(index, architectures[index]) for index in outliers], protocol=protocol)
    for network in repeated:
        networks[network.index] = replace(networks[network.index], measured_again_ms=network.measured_ms)
    return Validation(tuple(networks), table, protocol)


def find_outliers(errors: Sequence[float]) -> list[int]:
    """The indices of errors beyond three times the median error and 2 %."""
    sizes = np.abs(errors)
    bound = max(_OUTLIER_FACTOR * float(np.median(sizes)), _SMALLEST_OUTLIER)
    return [index for index, size in enumerate(sizes) if size > bound]


def _measure(
    table: LatencyTable, runner: Runner, architectures: Sequence[tuple[int, Architecture]], *, protocol: LatencyConfig
) -> list[HeldOutNetwork]:
    measurements = measure_networks(
        [architecture for _, architecture in architectures],
        runner=runner,
        protocol=protocol,
        num_classes=table.target.num_classes,
        input_size=table.target.input_size,
    )
    return [
        _held_out(table, index, architecture, measurement)
        for (index, architecture), measurement in zip(architectures, measurements, strict=True)
    ]


def _held_out(
    table: LatencyTable, index: int, architecture: Architecture, measurement: LatencyMeasurement
) -> HeldOutNetwork:
    sample = network_sample(table, architecture, measurement)
    return HeldOutNetwork(
        index=index,
        ends="+".join(map(str, architecture.ends)),
        operators=sample.operators,
        sum_ms=sample.sum_ms,
        predicted_ms=table.correction.apply(sample.sum_ms, sample.operators),
        measured_ms=sample.scaled_ms,
        raw_ms=measurement.median_ms,
        spread=measurement.spread,
        stable=measurement.stable,
    )
