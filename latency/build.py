"""Building a latency table: measure what the space can reach, keep it as it comes, fit the correction, write it."""

import statistics
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import torch
from pydantic import BaseModel

from fasterseg.base.console import CONSOLE, epoch_progress, format_duration
from fasterseg.base.experiment import Experiment, dataset_num_classes
from fasterseg.base.locks import FolderLock
from fasterseg.networks.families import AnyArchitecture, network_specs
from fasterseg.networks.space import SpaceConfig
from fasterseg.networks.specs import OperatorSpec
from latency.config import LatencyConfig, TargetConfig
from latency.correction import measure_correction
from latency.journal import EntryJournal, journal_path
from latency.pace import reference_session
from latency.reachable import reachable_specs
from latency.records import TableEntry, TableTarget
from latency.runners import Runner, build_runner
from latency.table import TABLE_NAME, LatencyTable
from latency.timing import groups, measure_sessions

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
        lacking = existing.missing(specs)
        if not lacking and existing.has_correction_of(protocol):
            # a run that was killed between its last two steps leaves its journal behind
            journal_path(path).unlink(missing_ok=True)
            CONSOLE.print(f"{path} holds all {len(specs)} operators already")
            return existing
        if not only_missing:
            raise ValueError(describe_lack(existing, lacking, protocol))
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
    reference_ms = existing.reference_ms if existing is not None else _usual_pace(journal.entries)
    measured = {**known, **{spec: entry.at_pace(reference_ms) for spec, entry in journal.entries.items()}}
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
            with ExitStack() as stack:
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(protocol.seed)
                    sessions = [stack.enter_context(runner.prepare(spec.build(), spec.input_shape())) for spec in group]
                measurements = measure_sessions(sessions, runner.conditions(), protocol=protocol, reference=reference)
            journal.append(dict(zip(group, map(TableEntry.of, measurements), strict=True)))
            for name, clock_mhz in measurements[0].conditions.clocks_mhz.items():
                clocks_mhz[name].append(clock_mhz)
            progress.advance(len(group), note=group[-1].key)
    return {name: statistics.median_low(values) for name, values in clocks_mhz.items()}


def _usual_pace(entries: Mapping[OperatorSpec, TableEntry]) -> float:
    """The pace at which a new table's entries hold: the median of those they were measured at."""
    return statistics.median(entry.reference_ms for entry in entries.values())


def describe_lack(table: LatencyTable, lacking: Sequence[OperatorSpec], protocol: LatencyConfig) -> str:
    """What a table lacks of operators and of the correction that a protocol asks for, and how to add it."""
    wanted = []
    if lacking:
        wanted.append(f"{len(lacking)} of the operators asked for, {lacking[0].key} among them")
    if not table.has_correction_of(protocol):
        wanted.append(f"a correction fitted on {_named(protocol)} (its own is of {_named(table.protocol)})")
    return (
        f"{table.source} lacks {' and '.join(wanted)}; add it with `python -m latency table --config FILE "
        "--only-missing`, or remove that file to measure everything anew"
    )


def _named(protocol: LatencyConfig) -> str:
    return ", ".join(f"latency.{name} {value}" for name, value in protocol.fitting().items())


def _tell(table: LatencyTable, *, duration_s: float) -> None:
    unstable = [spec.key for spec, entry in table.entries.items() if not entry.stable]
    named = f": {', '.join(unstable[:_MAX_LISTED])}{', ...' * (len(unstable) > _MAX_LISTED)}" if unstable else ""
    CONSOLE.print(
        f"the table holds {len(table.entries)} operators after {format_duration(duration_s)}, {len(unstable)} of them "
        f"with an unsteady time (spread above {table.protocol.spread_bound:.0%}){named}",
    )
    if table.correction.mean_error is not None:
        CONSOLE.print(f"prediction: {table.correction.describe()}")
