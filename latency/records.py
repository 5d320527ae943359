"""The records that a latency table consists of: entries, the target they hold for, and the correction.

They are validated when they are read: a table with a zero, negative or missing time is refused, not used.
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as validated

from fasterseg.base.errors import describe_validation
from fasterseg.networks.resizing import Size
from fasterseg.networks.specs import OperatorSpec
from latency.timing import LatencyMeasurement

STRICT = ConfigDict(extra="forbid")
_SIGNIFICANT_DIGITS = 6

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


@validated(frozen=True, config=STRICT)
class TableEntry:
    """The time of one operator; see `LatencyMeasurement` for the fields.

    `median_ms` and `p95_ms` hold at the pace that the reference had meanwhile, until `at_pace` brings the entries of a
    table to one.
    """

    median_ms: Positive
    p95_ms: Positive
    spread: NotNegative
    count: Count
    disturbed_count: Count
    stable: bool
    reference_ms: Positive

    @classmethod
    def of(cls, measurement: LatencyMeasurement) -> Self:
        """What the table keeps of a measurement, which has a reference."""
        assert measurement.reference_ms is not None
        median_ms = measurement.at_pace(measurement.reference_ms)
        return cls(
            reference_ms=_rounded(measurement.reference_ms),
            median_ms=_rounded(median_ms),
            p95_ms=_rounded(max(median_ms, measurement.p95_ms)),
            spread=_rounded(measurement.spread),
            count=measurement.count,
            disturbed_count=measurement.disturbed_count,
            stable=measurement.stable,
        )

    def at_pace(self, reference_ms: float) -> Self:
        """The entry with its times at the pace at which the reference takes `reference_ms`."""
        factor = reference_ms / self.reference_ms
        return replace(self, median_ms=_rounded(self.median_ms * factor), p95_ms=_rounded(self.p95_ms * factor))


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


@validated(frozen=True, config=STRICT)
class TableTarget:
    """What a table answers for."""

    runner: str
    device: str
    precision: str
    threads: int
    input_size: Size
    num_classes: int
    batch_size: int = 1
    mode: str = "default"
    tf32: bool = False

    def describe(self) -> str:
        """The target in one line."""
        return (
            f"runner {self.runner}, device {self.device}, mode {self.mode}, precision {self.precision}, "
            f"threads {self.threads}, input_size {self.input_size[0]}x{self.input_size[1]}, {self.num_classes} classes"
        )


def entry_from_data(data: object) -> tuple[OperatorSpec, TableEntry]:
    """The specification and the entry of one record of a table or of its journal.

    Raises:
        ValueError: The record is incomplete or holds impossible values.
    """
    if not isinstance(data, Mapping):
        raise ValueError(f"got {data!r}, expected a JSON object")
    values = dict(data)
    spec_data = values.pop("spec", None)
    if not isinstance(spec_data, dict):
        raise ValueError("spec: missing, expected the operator's specification")
    spec = OperatorSpec.from_dict(spec_data)
    try:
        return spec, TypeAdapter(TableEntry).validate_python(values)
    except ValidationError as error:
        raise ValueError("; ".join(describe_validation(error))) from error


def entry_to_data(spec: OperatorSpec, entry: TableEntry) -> dict[str, Any]:
    """One record of a table's journal."""
    return {**asdict(entry), "spec": spec.to_dict()}


def _rounded(value: float) -> float:
    return float(f"{value:.{_SIGNIFICANT_DIGITS}g}")
