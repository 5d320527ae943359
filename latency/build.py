"""Building a latency table: measure what the space can reach, keep it as it comes, fit the correction, write it."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import torch
from pydantic import BaseModel

from fasterseg.engine.config import Experiment, dataset_num_classes
from fasterseg.engine.progress import CONSOLE, epoch_progress
from fasterseg.networks.space import SpaceConfig
from fasterseg.networks.specs import OperatorSpec
from latency.config import LatencyConfig, TargetConfig
from latency.correction import measure_correction
from latency.journal import EntryJournal, journal_path
from latency.pace import reference_session
from latency.reachable import reachable_specs
from latency.records import TableEntry, TableTarget
from latency.runners import Conditions, Runner, build_runner
from latency.table import TABLE_NAME, LatencyTable
from latency.timing import groups, measure_sessions

STAGE = "latency"
SECTIONS: Mapping[str, type[BaseModel]] = {"target": TargetConfig, "space": SpaceConfig, "latency": LatencyConfig}


def run_table(experiment: Experiment, *, out: Path) -> Path:
    """Measures the table of an experiment; a table that is complete stays as it is, a cut-off run goes on.

    Args:
        experiment: Read with at least the sections in `SECTIONS`.
        out: The folder that the table goes to.

    Returns:
        The table's file.

    Raises:
        ValueError: The runtime is absent, or `out` holds a table of another target.
        FileNotFoundError: The experiment's dataset, which says how many classes there are, does not exist.
    """
    path = out / TABLE_NAME
    build_table(
        path,
        target=experiment.section("target", TargetConfig),
        space=experiment.section("space", SpaceConfig),
        protocol=experiment.section("latency", LatencyConfig),
        num_classes=dataset_num_classes(experiment),
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
) -> LatencyTable:
    """Measures what a table lacks and writes it; returns an existing table that lacks nothing as it is.

    Args:
        path: The table's file.
        target: What to measure on.
        space: Whose operators to measure.
        protocol: How to measure, and how many networks to fit the correction on.
        num_classes: Channels of the logits.
        extra_specs: Operators beyond the space, such as another network's.

    Raises:
        ValueError: The runtime is absent, or the file holds a table of another target, space or machine.
    """
    specs = tuple(dict.fromkeys((*reachable_specs(space, num_classes, input_size=target.input_size), *extra_specs)))
    existing = _existing_table(path, target=target, space=space, num_classes=num_classes)
    if existing is not None and existing.is_complete(specs, protocol):
        CONSOLE.print(f"{path} holds all {len(specs)} operators already", soft_wrap=True)
        return existing
    runner, reason = build_runner(target)
    CONSOLE.print(f"measuring with {reason}", soft_wrap=True)
    _check_machine(existing, runner.conditions())
    table_target = TableTarget(
        runner=runner.name,
        device=runner.device,
        precision=runner.precision,
        threads=runner.threads,
        input_size=target.input_size,
        num_classes=num_classes,
    )
    timing = protocol.model_dump(mode="json", exclude={"correction_networks", "seed"})
    header = {"target": vars(table_target), "conditions": runner.conditions().to_dict(), "protocol": timing}
    journal = EntryJournal(journal_path(path), header)
    known = existing.entries if existing is not None else {}
    _measure_entries([spec for spec in specs if spec not in known], journal, runner=runner, protocol=protocol)
    reference_ms = existing.reference_ms if existing is not None else _usual_pace(journal.entries)
    measured = {**known, **{spec: entry.at_pace(reference_ms) for spec, entry in journal.entries.items()}}
    table = LatencyTable(
        target=table_target,
        space=space,
        conditions=runner.conditions(),
        protocol=protocol,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        reference_ms=reference_ms,
        entries={spec: measured[spec] for spec in dict.fromkeys((*specs, *measured))},
        source=str(path),
    )
    table = replace(table, correction=measure_correction(table, runner=runner, protocol=protocol))
    table.save(path)
    journal.remove()
    _tell(table)
    return table


def _existing_table(path: Path, *, target: TargetConfig, space: SpaceConfig, num_classes: int) -> LatencyTable | None:
    if not path.exists():
        return None
    table = LatencyTable.load(path)
    table.check_target(target, space=space, num_classes=num_classes)
    return table


def _check_machine(table: LatencyTable | None, conditions: Conditions) -> None:
    if table is not None and table.conditions != conditions:
        raise ValueError(
            f"{table.source} was measured under {table.conditions}, now it is {conditions}; entries of both do not "
            "belong in one table: use another --out folder, or remove that file"
        )


def _measure_entries(
    specs: Sequence[OperatorSpec], journal: EntryJournal, *, runner: Runner, protocol: LatencyConfig
) -> None:
    """Measures the operators that the journal lacks, a group at a time; what a group gave is kept before the next."""
    missing = [spec for spec in specs if spec not in journal.entries]
    reference = reference_session(runner)
    with epoch_progress("latency table", len(specs), completed=len(specs) - len(missing)) as progress:
        for group in groups(missing, protocol.interleave):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(protocol.seed)
                sessions = [runner.prepare(spec.build(), spec.input_shape()) for spec in group]
            measurements = measure_sessions(sessions, runner.conditions(), protocol=protocol, reference=reference)
            journal.append(dict(zip(group, map(TableEntry.of, measurements), strict=True)))
            progress.advance(len(group), note=group[-1].key)


def _usual_pace(entries: Mapping[OperatorSpec, TableEntry]) -> float:
    """The pace at which a new table's entries hold: the median of those they were measured at."""
    return statistics.median(entry.reference_ms for entry in entries.values())


def _tell(table: LatencyTable) -> None:
    unstable = sum(not entry.stable for entry in table.entries.values())
    correction = table.correction
    CONSOLE.print(f"{len(table.entries)} operators measured, {unstable} of them with an unsteady time", soft_wrap=True)
    if correction.mean_error is not None:
        CONSOLE.print(
            f"prediction: {correction.slope:.4g} * sum + {correction.per_operator_ms:.4g} ms * operators + "
            f"{correction.constant_ms:.4g} ms, fitted on {correction.networks} random networks; cross-validated error "
            f"{correction.mean_error:.1%} on average, {correction.largest_error:.1%} at most",
            soft_wrap=True,
        )
