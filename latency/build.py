"""Building a latency table: measure what the space can reach, keep it as it comes, fit the correction, write it.

What a run has measured so far lies on disk after every group of operators, so that a cut-off run goes on: in a journal
beside the table, with target, conditions and protocol as its first line and one line for each entry. The journal only
ever grows. Of a run that was killed in the middle of a line, that line is cut off and measured again.
"""

import json
import statistics
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from fasterseg.base.console import CONSOLE, epoch_progress, format_duration
from fasterseg.base.errors import DamagedFileError, differences
from fasterseg.base.experiment import Experiment, dataset_num_classes
from fasterseg.base.files import write_text
from fasterseg.base.lines import append_json_lines, read_json_lines
from fasterseg.base.locks import FolderLock
from fasterseg.networks.families import AnyArchitecture, network_specs
from fasterseg.networks.operator_specs import OperatorSpec
from fasterseg.networks.reachable import reachable_specs
from fasterseg.networks.space import SpaceConfig
from latency.config import LatencyConfig, TargetConfig
from latency.correction import Correction, correction_architectures, fit_correction
from latency.measure import measure_networks, network_sample
from latency.runners.base import Runner
from latency.runners.selection import build_runner
from latency.table import (
    CHANGED_FORMAT,
    TABLE_NAME,
    LatencyTable,
    TableEntry,
    TableTarget,
    entry_from_data,
    entry_to_data,
)
from latency.timing import groups, measure_modules, reference_session

STAGE = "latency"
SECTIONS: Mapping[str, type[BaseModel]] = {"target": TargetConfig, "space": SpaceConfig, "latency": LatencyConfig}
_MAX_LISTED = 5


def run_table(
    experiment: Experiment,
    *,
    out: Path,
    num_classes: int | None = None,
    networks: Sequence[AnyArchitecture] = (),
    only_missing: bool = False,
) -> Path:
    """Measures the table of an experiment; a table that is complete stays as it is, a cut-off run goes on.

    Args:
        experiment: Read with at least the sections in `SECTIONS`.
        out: The folder that the table goes to.
        num_classes: Channels of the logits; None takes those of the experiment's dataset.
        networks: Networks outside the space whose operators belong in the table too.
        only_missing: Whether a table that is there gets what it lacks; see `build_table`.

    Returns:
        The table's file.

    Raises:
        ValueError: The runtime is absent, or `out` holds a table of another target.
        FileNotFoundError: The experiment's dataset, which says how many classes there are, does not exist.
    """
    path = out / TABLE_NAME
    target = experiment.section("target", TargetConfig)
    classes = dataset_num_classes(experiment) if num_classes is None else num_classes
    with FolderLock(out):
        build_table(
            path,
            target=target,
            space=experiment.section("space", SpaceConfig),
            protocol=experiment.section("latency", LatencyConfig),
            num_classes=classes,
            extra_specs=[
                spec for network in networks for spec in network_specs(network, classes, input_size=target.input_size)
            ],
            only_missing=only_missing,
        )
    return path


def build_table(
    path: Path,
    *,
    target: TargetConfig,
    space: SpaceConfig,
    protocol: LatencyConfig,
    num_classes: int,
    extra_specs: Sequence[OperatorSpec] = (),
    only_missing: bool = False,
) -> LatencyTable:
    """Measures a table and writes it; an existing table that lacks nothing is returned as it is.

    Args:
        path: The table's file.
        target: What to measure on.
        space: Whose operators to measure.
        protocol: How to measure, and how many networks to fit the correction on.
        num_classes: Channels of the logits.
        extra_specs: Operators beyond the space, such as another network's.
        only_missing: Whether an existing table gets what it lacks, entries or correction, and keeps what it has.

    Raises:
        ValueError: The runtime is absent; or the file holds a table of another target, space, machine or protocol, or
            one that lacks something while `only_missing` is not set.
    """
    started_s = time.monotonic()
    specs = tuple(dict.fromkeys((*reachable_specs(space, num_classes, input_size=target.input_size), *extra_specs)))
    runner, reason = build_runner(target)
    existing = LatencyTable.load(path) if path.exists() else None
    if existing is not None:
        existing.check_target(target, space=space, num_classes=num_classes)
        existing.check_machine(runner.conditions())
        existing.check_protocol(protocol)
        if _is_complete(existing, specs, protocol, may_be_completed=only_missing):
            # a run that was killed after it wrote the table leaves its journal behind
            journal_path(path).unlink(missing_ok=True)
            CONSOLE.print(f"{path} holds all {len(specs)} operators already")
            return existing
    CONSOLE.print(f"measuring with {reason}")
    table = _measure_table(
        path,
        existing=existing,
        specs=specs,
        runner=runner,
        target=_table_target(runner, target, num_classes),
        space=space,
        protocol=protocol,
    )
    if existing is None or not existing.has_correction_of(protocol):
        table = replace(table, correction=measure_correction(table, runner=runner, protocol=protocol))
    table.save(path)
    journal_path(path).unlink()
    _tell(table, duration_s=time.monotonic() - started_s)
    return table


def _is_complete(
    table: LatencyTable, specs: Sequence[OperatorSpec], protocol: LatencyConfig, *, may_be_completed: bool
) -> bool:
    """Whether a table has all operators and the correction that is asked for.

    Raises:
        ValueError: It lacks something and is not to be completed.
    """
    lacking = table.missing(specs)
    if not lacking and table.has_correction_of(protocol):
        return True
    if may_be_completed:
        return False
    raise ValueError(table.describe_lack(lacking, protocol))


def journal_path(table_path: Path) -> Path:
    """Where the journal of a table lies."""
    return table_path.with_name(table_path.name + ".partial.jsonl")


class EntryJournal:
    """The entries of an unfinished table run.

    Args:
        path: The journal's file; made if it does not exist.
        header: Target, conditions and protocol of this run as JSON-ready data.

    Attributes:
        entries: What earlier runs and this one have measured.

    Raises:
        ValueError: The file is of a run with another header, or damaged before its last line.
    """

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self.path = path
        self.entries: dict[OperatorSpec, TableEntry] = {}
        text = json.dumps(header, sort_keys=True)
        if path.is_file():
            append_json_lines(path, [])  # takes off a line that was cut off
        try:
            lines = read_json_lines(path)
        except DamagedFileError as error:
            raise DamagedFileError(f"{error}, or move it away if it is not a table's journal") from error
        if not lines:
            write_text(path, text + "\n")
            return
        self._check_header(lines[0], json.loads(text))
        for number, line in enumerate(lines[1:], start=2):
            try:
                spec, entry = entry_from_data(line)
            except ValueError as error:
                raise ValueError(f"{path}, line {number} is damaged ({error}); remove the file") from error
            self.entries[spec] = entry

    def append(self, entries: Mapping[OperatorSpec, TableEntry]) -> None:
        """Keeps further entries, on disk when this returns."""
        append_json_lines(self.path, (entry_to_data(spec, entry) for spec, entry in entries.items()), synced=True)
        self.entries.update(entries)

    def _check_header(self, found: Any, header: dict[str, Any]) -> None:
        if not isinstance(found, dict) or not all(isinstance(found.get(section), dict) for section in header):
            raise ValueError(f"{self.path} is not a table's journal: its first line is no header; remove the file")
        asked = {f"{section}.{name}": value for section, values in header.items() for name, value in values.items()}
        kept = {f"{section}.{name}": found[section].get(name) for section, values in header.items() for name in values}
        differing = list(differences(kept, asked, words=CHANGED_FORMAT))
        if differing:
            raise ValueError(
                f"{self.path} holds measurements of a run that was cut off, made under other conditions: "
                f"{', '.join(differing)}; go on under those, or remove the file to start anew"
            )


def _table_target(runner: Runner, target: TargetConfig, num_classes: int) -> TableTarget:
    return TableTarget(
        runner=runner.name,
        device=runner.device,
        precision=runner.precision,
        threads=runner.threads,
        input_size=target.input_size,
        num_classes=num_classes,
        mode=runner.mode,
        tf32=runner.tf32,
    )


def _measure_table(
    path: Path,
    *,
    existing: LatencyTable | None,
    specs: Sequence[OperatorSpec],
    runner: Runner,
    target: TableTarget,
    space: SpaceConfig,
    protocol: LatencyConfig,
) -> LatencyTable:
    """The table with all its entries, and with the correction that it had."""
    conditions = runner.conditions() if existing is None else existing.conditions
    same_conditions = {name: value for name, value in conditions.to_dict().items() if name != "clocks_mhz"}
    header = {"target": vars(target), "conditions": same_conditions, "protocol": protocol.timing()}
    journal = EntryJournal(journal_path(path), header)
    known = existing.entries if existing is not None else {}
    clocks_mhz = _measure_entries(
        [spec for spec in specs if spec not in known], journal, runner=runner, protocol=protocol
    )
    reference_ms = existing.reference_ms if existing is not None else _usual_speed(journal.entries)
    measured = {**known, **{spec: entry.at_speed(reference_ms) for spec, entry in journal.entries.items()}}
    table = LatencyTable(
        target=target,
        space=space,
        conditions=replace(conditions, clocks_mhz=clocks_mhz or conditions.clocks_mhz),
        protocol=protocol,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        reference_ms=reference_ms,
        entries={spec: measured[spec] for spec in dict.fromkeys((*specs, *measured))},
        source=str(path),
    )
    return table if existing is None else replace(table, correction=existing.correction)


def _measure_entries(
    specs: Sequence[OperatorSpec], journal: EntryJournal, *, runner: Runner, protocol: LatencyConfig
) -> dict[str, int]:
    """Measures the operators that the journal lacks, a group at a time; what a group gave is kept before the next.

    Returns:
        The device's clocks while it worked: for each the median over the groups; empty where they cannot be read.
    """
    clocks_mhz: dict[str, list[int]] = defaultdict(list)
    missing = [spec for spec in specs if spec not in journal.entries]
    with (
        epoch_progress("latency table", len(specs), completed=len(specs) - len(missing)) as progress,
        reference_session(runner) as reference,
    ):
        for group in groups(missing, protocol.interleave):
            modules = [(spec.build, spec.input_shape()) for spec in group]
            measurements = measure_modules(modules, runner, protocol=protocol, reference=reference)
            journal.append(dict(zip(group, map(TableEntry.of, measurements), strict=True)))
            for name, clock_mhz in measurements[0].conditions.clocks_mhz.items():
                clocks_mhz[name].append(clock_mhz)
            progress.advance(len(group), note=group[-1].key)
    return {name: statistics.median_low(values) for name, values in clocks_mhz.items()}


def _usual_speed(entries: Mapping[OperatorSpec, TableEntry]) -> float:
    """The `reference_ms` that a new table's entries are scaled to: the median of those they were measured at."""
    return statistics.median(entry.reference_ms for entry in entries.values())


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


def _tell(table: LatencyTable, *, duration_s: float) -> None:
    unstable = [spec.key for spec, entry in table.entries.items() if not entry.stable]
    named = f": {', '.join(unstable[:_MAX_LISTED])}{', ...' * (len(unstable) > _MAX_LISTED)}" if unstable else ""
    CONSOLE.print(
        f"the table holds {len(table.entries)} operators after {format_duration(duration_s)}, {len(unstable)} of them "
        f"with an unsteady time (spread above {table.protocol.spread_bound:.0%}){named}",
    )
    if table.correction.mean_error is not None:
        CONSOLE.print(f"prediction: {table.correction.describe()}")
