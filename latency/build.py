"""Building a latency table: measure what the space can reach, keep it as it comes, fit the correction, write it."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import torch
from pydantic import BaseModel

from fasterseg.engine.config import Experiment, dataset_num_classes
from fasterseg.engine.progress import CONSOLE, epoch_progress
from fasterseg.networks.derived import derived_specs
from fasterseg.networks.space import SpaceConfig
from fasterseg.networks.specs import OperatorSpec
from latency.config import LatencyConfig, TargetConfig
from latency.correction import NetworkSample, correction_architectures, fit_correction
from latency.journal import EntryJournal, journal_path
from latency.measure import deployed_network
from latency.reachable import reachable_specs
from latency.records import Correction, TableEntry, TableTarget
from latency.runners import Runner, build_runner
from latency.table import TABLE_NAME, LatencyTable
from latency.timing import measure_sessions

STAGE = "latency"
Item = TypeVar("Item")
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
    table_target = TableTarget(
        runner=runner.name,
        device=runner.device,
        precision=runner.precision,
        threads=runner.threads,
        input_size=target.input_size,
        num_classes=num_classes,
    )
    if existing is not None and existing.conditions != runner.conditions():
        raise ValueError(
            f"{path} was measured under {existing.conditions}, now it is {runner.conditions()}; entries of both do not "
            "belong in one table: use another --out folder, or remove that file"
        )
    measured = dict(existing.entries) if existing is not None else {}
    timing = protocol.model_dump(mode="json", exclude={"correction_networks", "seed"})
    header = {"target": vars(table_target), "conditions": runner.conditions().to_dict(), "protocol": timing}
    journal = EntryJournal(journal_path(path), header)
    measured |= journal.entries
    _measure_entries([spec for spec in specs if spec not in measured], journal, runner=runner, protocol=protocol)
    measured |= journal.entries
    entries = {spec: measured[spec] for spec in (*specs, *(spec for spec in measured if spec not in set(specs)))}
    table = LatencyTable(
        target=table_target,
        space=space,
        conditions=runner.conditions(),
        protocol=protocol,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        entries=entries,
        correction=_measure_correction(
            entries, runner=runner, space=space, protocol=protocol, num_classes=num_classes, target=target
        ),
        source=str(path),
    )
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


def _measure_entries(
    specs: Sequence[OperatorSpec], journal: EntryJournal, *, runner: Runner, protocol: LatencyConfig
) -> None:
    """Measures operators group by group; what a group gave is in the journal before the next one starts."""
    done = len(journal.entries)
    with epoch_progress("latency table", done + len(specs), completed=done) as progress:
        for group in _groups(specs, protocol.interleave):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(protocol.seed)
                sessions = [runner.prepare(spec.build(), spec.input_shape()) for spec in group]
            measurements = measure_sessions(sessions, runner.conditions(), protocol=protocol)
            journal.append(dict(zip(group, map(TableEntry.of, measurements), strict=True)))
            progress.advance(len(group), note=group[-1].key)


def _measure_correction(
    entries: Mapping[OperatorSpec, TableEntry],
    *,
    runner: Runner,
    space: SpaceConfig,
    protocol: LatencyConfig,
    num_classes: int,
    target: TargetConfig,
) -> Correction:
    if protocol.correction_networks == 0:
        return Correction()
    architectures = correction_architectures(space, protocol.correction_networks, seed=protocol.seed)
    samples: list[NetworkSample] = []
    with epoch_progress("correction", len(architectures)) as progress:
        for group in _groups(architectures, protocol.interleave):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(protocol.seed)
                networks = [deployed_network(architecture, num_classes) for architecture in group]
            sessions = [runner.prepare(network, (1, 3, *target.input_size)) for network in networks]
            measurements = measure_sessions(sessions, runner.conditions(), protocol=protocol)
            for architecture, measurement in zip(group, measurements, strict=True):
                specs = derived_specs(architecture, num_classes, input_size=target.input_size)
                sum_ms = sum(entries[spec].median_ms for spec in specs)
                samples.append(NetworkSample(sum_ms, len(specs), measurement.median_ms))
            progress.advance(len(group))
    return fit_correction(samples, smallest_entry_ms=min(entry.median_ms for entry in entries.values()))


def _groups(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


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
