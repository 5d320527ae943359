"""The latency table: the measured time of every operator of a space on one target, and the prediction from it.

A table is a JSON file, versioned and diffable. It answers for the target it was measured on and for nothing else:
another target, or an operator that it lacks, is an error that says which command mends it. What is read is validated: a
table with a zero, negative or missing time is refused, not used.

The key of an entry is an `OperatorSpec` (`fasterseg.networks`): the kind of an operator, its channels and the size of
its map. A file writes it as text (`OperatorSpec.key`) and, beside the time, as plain data.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as validated

from fasterseg.base.errors import describe_validation, differences
from fasterseg.base.files import write_text
from fasterseg.networks.families import AnyArchitecture, network_specs
from fasterseg.networks.operator_specs import OperatorSpec
from fasterseg.networks.resizing import Size
from fasterseg.networks.space import SpaceConfig
from latency.config import AUTO, STRICT, Count, LatencyConfig, NotNegative, Positive, TargetConfig
from latency.correction import Correction
from latency.runners.base import Conditions
from latency.timing import LatencyMeasurement

FORMAT: Literal["fasterseg-latency-table"] = "fasterseg-latency-table"
# 2: times at the speed of another reference network; 3: the last resize as matrix products where a CPU runs the graph
FORMAT_VERSION: Literal[3] = 3
TABLE_NAME = "latency_table.json"
_MAX_LISTED = 5
# format strings: how a difference between a table and what is asked for, or a later run, is told
_ASKED_FOR_FORMAT = "{name} {found} (asked for: {wanted})"
CHANGED_FORMAT = "{name} {found} (now: {wanted})"
_SIGNIFICANT_DIGITS = 6
_TARGET_FIELDS = {"runner", "device", "mode", "precision", "tf32", "threads", "input_size"}


@validated(frozen=True, config=STRICT)
class TableEntry:
    """The time of one operator; see `LatencyMeasurement` for the fields.

    `median_ms` and `p95_ms` hold at the machine speed of that moment, which `reference_ms` tells: the time of the
    reference network, so smaller means a faster machine. `at_speed` scales the entries of a table to one speed.
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
        median_ms = measurement.at_speed(measurement.reference_ms)
        return cls(
            reference_ms=_rounded(measurement.reference_ms),
            median_ms=_rounded(median_ms),
            p95_ms=_rounded(max(median_ms, measurement.p95_ms)),
            spread=_rounded(measurement.spread),
            count=measurement.count,
            disturbed_count=measurement.disturbed_count,
            stable=measurement.stable,
        )

    def at_speed(self, reference_ms: float) -> Self:
        """The entry with its times at the machine speed at which the reference takes `reference_ms`."""
        factor = reference_ms / self.reference_ms
        return replace(self, median_ms=_rounded(self.median_ms * factor), p95_ms=_rounded(self.p95_ms * factor))


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


@dataclass(frozen=True, kw_only=True)
class LatencyTable:
    """Entries by operator specification, with what they were measured on and under.

    Attributes:
        target: What the table answers for.
        space: The search space whose specifications it holds.
        conditions: Machine and versions it was measured with.
        protocol: How it was measured.
        created: Date and time, ISO 8601 in UTC.
        reference_ms: Time of the reference network (`latency.timing`) that all entries are scaled to. Smaller means a
            faster machine.
        entries: The measured times.
        correction: From the sum to a network's time.
        uncounted_kinds: Kinds of operators that the times leave out, and that count nothing in a sum; an imported table
            has them, a measured one has none.
        source: What messages call the table, such as its file.
    """

    target: TableTarget
    space: SpaceConfig
    conditions: Conditions
    protocol: LatencyConfig
    created: str
    reference_ms: float
    entries: Mapping[OperatorSpec, TableEntry]
    correction: Correction = field(default_factory=Correction)
    uncounted_kinds: tuple[str, ...] = ()
    source: str = "the latency table"

    def entry_ms(self, spec: OperatorSpec) -> float:
        """The measured time of one operator.

        Raises:
            ValueError: The table lacks it.
        """
        if spec.kind in self.uncounted_kinds:
            return 0.0
        if spec not in self.entries:
            raise ValueError(
                f"{self.source} has no entry for {spec.key}; it was measured for another space or input size: measure "
                "this one with `python -m latency table --config FILE`, or a network outside the space with "
                "`python -m latency table --config FILE --only-missing --for NETWORK`"
            )
        return self.entries[spec].median_ms

    def sum_ms(self, specs: Iterable[OperatorSpec]) -> float:
        """The plain sum of the operators' times; a specification counts as often as it is named.

        Raises:
            ValueError: The table lacks one.
        """
        return sum(self.entry_ms(spec) for spec in specs)

    def predict_ms(self, specs: Iterable[OperatorSpec]) -> float:
        """The predicted time of a network of these operators, with the correction.

        Raises:
            ValueError: The table lacks one.
        """
        listed = tuple(specs)
        return self.correction.apply(self.sum_ms(listed), len(listed))

    def predict_architecture(self, architecture: AnyArchitecture) -> float:
        """The predicted time of a network of any family at the table's input size and class count.

        Raises:
            ValueError: The table lacks an operator.
        """
        return self.predict_ms(network_specs(architecture, self.target.num_classes, input_size=self.target.input_size))

    def missing(self, specs: Iterable[OperatorSpec]) -> tuple[OperatorSpec, ...]:
        """Those of the operators that the table lacks, each once."""
        return tuple(spec for spec in dict.fromkeys(specs) if spec not in self.entries)

    def has_correction_of(self, protocol: LatencyConfig) -> bool:
        """Whether the correction was fitted with this protocol's settings.

        With `correction_networks: 0` there is no fit: then the plain sum is what the protocol asks for.
        """
        if self.correction.networks == protocol.correction_networks == 0:
            return True
        return self.correction.networks > 0 and self.protocol.fitting() == protocol.fitting()

    def describe_lack(self, lacking: Sequence[OperatorSpec], protocol: LatencyConfig) -> str:
        """What it lacks of operators and of the correction that a protocol asks for, and how to add it."""
        wanted = []
        if lacking:
            wanted.append(f"{len(lacking)} of the operators asked for, {lacking[0].key} among them")
        if not self.has_correction_of(protocol):
            asked, present = (
                ", ".join(f"{name} {value}" for name, value in _prefixed("latency", each.fitting()).items())
                for each in (protocol, self.protocol)
            )
            wanted.append(f"a correction fitted on {asked} (its own is of {present})")
        return (
            f"{self.source} lacks {' and '.join(wanted)}; add it with `python -m latency table --config FILE "
            "--only-missing`, or remove that file to measure everything anew"
        )

    def check_protocol(self, protocol: LatencyConfig) -> None:
        """Makes sure that the entries were measured the way that is asked for now.

        Raises:
            ValueError: They were not; the message names what differs.
        """
        found, asked = _prefixed("latency", self.protocol.timing()), _prefixed("latency", protocol.timing())
        differing = list(differences(found, asked, words=_ASKED_FOR_FORMAT))
        if differing:
            raise ValueError(
                f"{self.source} was measured another way: {', '.join(differing)}; set these back, or measure into "
                "another --out folder or after removing that file"
            )

    def check_machine(self, conditions: Conditions) -> None:
        """Makes sure that the machine and its software are those the table was measured with.

        Raises:
            ValueError: They are not; the message names what differs.
        """
        differing = list(differences(_comparable(self.conditions), _comparable(conditions), words=CHANGED_FORMAT))
        if differing:
            raise ValueError(
                f"{self.source} was measured on another machine or with other versions: {', '.join(differing)}; "
                "entries of both do not belong in one table: use another --out folder, or remove that file"
            )

    def check_target(
        self, target: TargetConfig, *, space: SpaceConfig | None = None, num_classes: int | None = None
    ) -> None:
        """Makes sure that the table answers for a target; a runner, device or mode of `auto` takes what was measured.

        Args:
            target: The target asked for.
            space: The search space asked for; None when no search is at hand.
            num_classes: Channels of the logits asked for; None when they are not known.

        Raises:
            ValueError: It was measured for another target or space; the message names both.
        """
        found = {**vars(self.target), **_prefixed("space", self.space.model_dump())}
        asked = {
            name: value
            for name, value in target.model_dump(include=_TARGET_FIELDS).items()
            if value != AUTO or name not in ("runner", "device", "mode")
        }
        asked |= {} if space is None else _prefixed("space", space.model_dump())
        asked |= {} if num_classes is None else {"num_classes": num_classes}
        differing = list(differences({name: found[name] for name in asked}, asked, words=_ASKED_FOR_FORMAT))
        if differing:
            raise ValueError(
                f"{self.source} was measured for another target: {', '.join(differing)}; measure this one with "
                "`python -m latency table --config FILE`, into another --out folder or after removing that file"
            )

    def to_json(self) -> str:
        """The table as the text of its file: one entry to a line, so that two tables can be compared."""
        head = {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "created": self.created,
            "reference_ms": self.reference_ms,
            "target": asdict(self.target),
            "conditions": self.conditions.to_dict(),
            "protocol": self.protocol.model_dump(mode="json"),
            "space": self.space.model_dump(mode="json"),
            "correction": asdict(self.correction),
            "uncounted_kinds": list(self.uncounted_kinds),
        }
        lines = [
            f"    {json.dumps(spec.key)}: " + json.dumps(entry_to_data(spec, entry))
            for spec, entry in self.entries.items()
        ]
        return json.dumps(head, indent=2)[:-2] + ',\n  "entries": {\n' + ",\n".join(lines) + "\n  }\n}\n"

    def save(self, path: Path) -> None:
        """Writes the table through a temporary name."""
        write_text(path, self.to_json())

    @staticmethod
    def load(path: Path) -> "LatencyTable":
        """Reads a table.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is truncated, not a table, of another version, or holds impossible values.
        """
        if not path.is_file():
            raise FileNotFoundError(f"no latency table at {path}; `python -m latency table --config FILE` measures one")
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is not valid JSON ({error}); measure the table again") from error
        return _from_data(data, str(path))


@validated(frozen=True, config=STRICT)
class _TableFile:
    """The layout of a table's file."""

    format: Literal["fasterseg-latency-table"]
    version: Literal[3]
    created: str
    reference_ms: Positive
    target: TableTarget
    conditions: Conditions
    protocol: LatencyConfig
    space: SpaceConfig
    correction: Correction
    entries: dict[str, dict[str, Any]]
    uncounted_kinds: tuple[str, ...] = ()


def _from_data(data: object, source: str) -> LatencyTable:
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ValueError(f"{source} is not a latency table: expected a JSON object with format '{FORMAT}'")
    if data.get("version") != FORMAT_VERSION:
        raise ValueError(
            f"{source} has version {data.get('version')!r}, this release reads version {FORMAT_VERSION}; measure the "
            "table again with `python -m latency table --config FILE`"
        )
    problems: list[str] = []
    entries: dict[OperatorSpec, TableEntry] = {}
    try:
        file = TypeAdapter(_TableFile).validate_python(data)
    except ValidationError as error:
        raise ValueError(_corrupted(source, describe_validation(error))) from error
    for key, record in file.entries.items():
        try:
            spec, entry = entry_from_data(record)
        except ValueError as error:
            problems.append(f"entries.{key}: {error}")
            continue
        if spec.key != key:
            problems.append(f"entries.{key}: its specification is {spec.key}")
        entries[spec] = entry
    if problems or not entries:
        raise ValueError(_corrupted(source, problems or ["entries: none"]))
    return LatencyTable(
        target=file.target,
        space=file.space,
        conditions=file.conditions,
        protocol=file.protocol,
        created=file.created,
        reference_ms=file.reference_ms,
        entries=entries,
        correction=file.correction,
        uncounted_kinds=file.uncounted_kinds,
        source=source,
    )


def _corrupted(source: str, problems: list[str]) -> str:
    more = f" (and {len(problems) - _MAX_LISTED} more)" if len(problems) > _MAX_LISTED else ""
    return f"{source} is corrupted: {'; '.join(problems[:_MAX_LISTED])}{more}; measure the table again"


def _prefixed(section: str, values: Mapping[str, object]) -> dict[str, object]:
    """The values under the names that they have in an experiment file."""
    return {f"{section}.{name}": value for name, value in values.items()}


def _comparable(conditions: Conditions) -> dict[str, object]:
    """What two measurements have to have in common; clocks change by themselves."""
    values = {name: value for name, value in vars(conditions).items() if name not in ("versions", "clocks_mhz")}
    return {**values, **{f"version of {package}": version for package, version in conditions.versions.items()}}


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
    """One record of a table or of its journal."""
    return {**asdict(entry), "spec": spec.to_dict()}


def _rounded(value: float) -> float:
    return float(f"{value:.{_SIGNIFICANT_DIGITS}g}")
