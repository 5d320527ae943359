"""Kills a tiny run of the pipeline again and again, and holds its end against that of a run that nothing disturbed.

    python -m tests.reliability.kills --kills 100 --seed 1                       # at random times
    python -m tests.reliability.kills --kills 100 --moments operations           # at renames, openings, syncs, ...
    python -m tests.reliability.kills --moments power                            # the same, and unsynced data is lost
    python -m tests.reliability.kills --moments operations --at 'rename .*config.yaml'
    python -m tests.reliability.kills --stages                                   # stage by stage, which is faster
    python -m tests.reliability.kills --kills 12 --per-run 6                     # six kills in a row to a run
    python -m tests.reliability.kills --kills 20 --latency                       # while the table is measured

A killed run is started again with the same command until it ends. It must end by itself: no start may fail, and
weights, figures, architectures and exported files must be those of the undisturbed run to the last bit. All runs share
a latency table of made-up times, so that nothing but the kills makes a difference; `--latency` compares the table
alone.
"""

import argparse
import gc
import os
import random
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.reliability import warm_process
from tests.reliability.file_operations import End, Ending
from tests.reliability.fixed_table import TABLE_NAME, fix_table
from tests.reliability.results import (
    TEMPORARY_SUFFIX,
    Results,
    describe_differences,
    read_digests,
    read_results,
)

EXPERIMENT = Path(__file__).with_name("tiny.yaml")
RUN_FOLDER = "runs/tiny"
# smaller still than the experiment: a run takes some ten seconds, most of it the export's
SMALLER = (
    "space.layers=4",
    "space.operators=[skip,conv]",
    "dataset.synthesize.train_images=6",
    "dataset.synthesize.val_images=2",
    "dataset.synthesize.test_images=1",
    "latency.correction_networks=0",
    "latency.interleave=100",
)
# more images than one process makes, so that several do
WORKERS = ("dataset.num_workers=1", "dataset.synthesize.train_images=18")
STAGES = ("dataset", "latency", "pretrain", "search", "teacher", "student", "export", "report")
_HEADING = re.compile(r"─ \d+/\d+ (\w+) ─")
_HANGS = 20
_SHOWN = 160


@dataclass(frozen=True)
class Moment:
    """When a start is killed: after a time, or at an operation."""

    after_s: float | None = None
    at: End | None = None

    def __str__(self) -> str:
        if self.at is None:
            return f"{self.after_s:.2f} s"
        return (
            f"operation {self.at.number}" + {"kill": "", "opened": ", opened", "power": ", power cut"}[self.at.ending]
        )


@dataclass(frozen=True)
class Kill:
    """A kill that struck."""

    moment: Moment
    stage: str
    operation: str


@dataclass
class Outcome:
    """How a run that was killed ended.

    Attributes:
        verdict: `equal`, or what was wrong.
        kills: Those that struck.
        leftovers: Temporary files that stayed.
        duration_s: Of all its starts.
    """

    verdict: str = "equal"
    kills: list[Kill] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    duration_s: float = 0.0


@dataclass(frozen=True)
class Leg:
    """A part of the pipeline that runs are killed in.

    Attributes:
        start: The folder that a run starts from.
        until: The last stage.
        results: Those of the run that nothing disturbed.
        operations: Its operations on files.
        length_s: What it takes.
    """

    start: Path
    until: str
    results: Results
    operations: list[str]
    length_s: float


class KillBench:
    """Runs of one experiment in folders of their own.

    Args:
        folder: A new one, for everything.
        settings: Of the form section.field=value.
        measures: Whether the runs measure the table, and end with that.
    """

    def __init__(self, folder: Path, settings: Sequence[str], *, measures: bool) -> None:
        self.folder = folder
        self.measures = measures
        self.arguments = ["--config", EXPERIMENT.name]
        for setting in settings:
            self.arguments += ["--set", setting]

    def prepare(self, stages: Sequence[str]) -> list[Leg]:
        """Imports everything, and has one run go through stages, each of which, with those before it, makes a leg.

        Raises:
            RuntimeError: The run failed; the message ends in what it said.
        """
        warm_process.warm_up()
        folder = self.folder / "undisturbed"
        (folder / "data").mkdir(parents=True)
        shutil.copy(EXPERIMENT, folder)
        if not self.measures:
            self._make_table(folder)
        legs = []
        for stage in stages:
            start = Path(shutil.copytree(folder, self.folder / f"before_{stage}"))
            notes = self._notes(folder)
            notes.unlink(missing_ok=True)
            started_s = time.monotonic()
            exit_code, said = self._start(folder, stage, Moment(), limit_s=3600)
            if exit_code != 0:
                raise RuntimeError(f"the undisturbed run ended with {exit_code}: {said}")
            length_s = time.monotonic() - started_s - warm_process.warm_up(self._log(folder))
            legs.append(Leg(start, stage, self.read(folder), notes.read_text().splitlines(), max(length_s, 0.5)))
        # what the copies of this process share stays shared: their garbage collectors leave it alone
        gc.collect()
        gc.freeze()
        return legs

    def kill(self, name: str, moments: Sequence[Moment], leg: Leg) -> Outcome:
        """Has a run killed at each of the moments in turn, lets it end, and compares."""
        folder, outcome, started_s = self.folder / name, Outcome(), time.monotonic()
        shutil.copytree(leg.start, folder)
        limit_s = _HANGS * leg.length_s + 600
        for moment in (*moments, Moment()):
            exit_code, said = self._start(folder, leg.until, moment, limit_s=limit_s)
            if exit_code is None:
                outcome.verdict = f"hangs for {limit_s:.0f} s: {said}"
                break
            if exit_code == 0:
                break
            if exit_code > 0 or moment == Moment():
                outcome.verdict = f"exit code {exit_code}: {said}"
                break
            stages = _HEADING.findall(said)
            notes = self._notes(folder).read_text().splitlines() if moment.at else [""]
            outcome.kills.append(Kill(moment, stages[-1] if stages else "start", notes[-1]))
        outcome.duration_s = time.monotonic() - started_s
        if outcome.verdict == "equal":
            differences = describe_differences(leg.results, self.read(folder))
            if differences:
                files = dict.fromkeys(line.split(": ")[1] for line in differences)
                outcome.verdict = f"{len(differences)} results differ, in {', '.join(files)}"
        left = (path.relative_to(folder) for path in folder.rglob(f"*{TEMPORARY_SUFFIX}"))
        outcome.leftovers = sorted(map(str, left))
        return outcome

    def read(self, folder: Path) -> Results:
        """The results of a run; what was measured counts as the made-up times do."""
        if self.measures:
            fix_table(folder / RUN_FOLDER / TABLE_NAME)
        return {**read_results(folder / RUN_FOLDER), **read_digests(folder / "data")}

    def remove(self, name: str) -> None:
        """Removes a run's folder."""
        shutil.rmtree(self.folder / name)

    def _make_table(self, folder: Path) -> None:
        """Puts a table of made-up times into a run's folder."""
        measured = Path(shutil.copytree(folder, self.folder / "table"))
        exit_code, said = self._start(measured, "latency", Moment(), limit_s=3600)
        if exit_code != 0:
            raise RuntimeError(f"measuring ended with {exit_code}: {said}")
        warm_process.warm_up(self._log(measured))
        fix_table(measured / RUN_FOLDER / TABLE_NAME)
        shutil.copytree(measured / RUN_FOLDER / "latency", folder / RUN_FOLDER / "latency")

    def _log(self, folder: Path) -> Path:
        return self.folder / f"{folder.name}.log"

    def _notes(self, folder: Path) -> Path:
        return self.folder / f"{folder.name}.operations"

    def _start(self, folder: Path, until: str, moment: Moment, *, limit_s: float) -> tuple[int | None, str]:
        """One start, killed at a moment; its exit code, negative where it was killed, None where it hung, and words."""
        log, notes = self._log(folder), self._notes(folder)
        said_before = log.stat().st_size if log.exists() else 0
        process = warm_process.start([*self.arguments, "--until", until], folder, log=log, notes=notes, end=moment.at)
        process.join(limit_s if moment.after_s is None else moment.after_s)
        hangs = process.is_alive() and moment.after_s is None
        warm_process.end(process)
        said = log.read_bytes()[said_before:].decode(errors="replace")
        return None if hangs else process.exitcode, said


Plan = Iterator[tuple[Leg, list[Moment]]]


def random_times(legs: Sequence[Leg], generator: random.Random, *, kills: int, per_run: int) -> Plan:
    """Moments at random times, in one leg after another: anywhere in it, or further into it with each kill in a row."""
    for run, first in enumerate(range(0, kills, per_run)):
        leg = legs[run % len(legs)]
        longest_s = leg.length_s * min(1, 3 / per_run)
        count = min(per_run, kills - first)
        yield leg, [Moment(after_s=generator.uniform(0, longest_s)) for _ in range(count)]


def operations(
    legs: Sequence[Leg], generator: random.Random, *, kills: int, per_run: int, power: bool, at: str
) -> Plan:
    """Moments at operations: first one of each kind, in random order, then others of these kinds."""
    found = [(leg, number, text) for leg in legs for number, text in enumerate(leg.operations, start=1) if at in text]
    if not found:
        raise ValueError(f"--at {at}: no operation matches")
    generator.shuffle(found)
    seen: dict[str, int] = {}
    turns = []
    for leg, number, text in found:
        kind = re.sub(r"\d+", "N", text)
        seen[kind] = seen.get(kind, 0) + 1
        turns.append((seen[kind], leg, number))
    turns.sort(key=lambda turn: turn[0])
    runs = -(-kills // per_run)
    for _, leg, number in turns[:runs]:
        furthest = max(1, min(len(leg.operations), len(leg.operations) * 3 // per_run))
        numbers = [number] if per_run == 1 else [generator.randint(1, furthest) for _ in range(per_run)]
        yield leg, [_at_operation(number, leg, generator, power=power) for number in numbers]


def _at_operation(number: int, leg: Leg, generator: random.Random, *, power: bool) -> Moment:
    opens = leg.operations[number - 1].startswith("open")
    ending: Ending = "opened" if opens and generator.random() < 0.5 else "kill"
    return Moment(at=End(number, "power" if power else ending, seed=generator.randrange(2**32)))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="how many")
    parser.add_argument("--per-run", type=int, default=1, help="how many of them in a row strike one run")
    parser.add_argument("--seed", type=int, default=0, help="decides the moments")
    parser.add_argument("--moments", choices=("times", "operations", "power"), default="times")
    parser.add_argument("--at", default="", metavar="PATTERN", help="of the operations only those that match")
    parser.add_argument("--stages", action="store_true", help="kill and compare stage by stage, which is faster")
    parser.add_argument("--until", choices=STAGES, default=STAGES[-1], help="the last stage")
    parser.add_argument("--latency", action="store_true", help="kill the measuring of the table, and run no further")
    parser.add_argument("--workers", action="store_true", help="with processes that load and make images")
    parser.add_argument("--tidy", action="store_true", help="temporary files that stay are a failure, too")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="SECTION.FIELD=VALUE")
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="work in this new folder; runs that fail stay there"
    )
    options = parser.parse_args(arguments)
    if os.environ.get("OMP_NUM_THREADS") != "1":
        # read when PyTorch and NumPy are imported; a process with threads cannot be copied
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary if options.keep is None else options.keep).resolve()
        settings = [*SMALLER, *(WORKERS if options.workers else ()), *options.settings]
        return run(KillBench(folder, settings, measures=options.latency), options)


def run(bench: KillBench, options: argparse.Namespace) -> int:
    """Kills, prints a table, and returns 1 where any run did not end as it should."""
    until = "latency" if options.latency else options.until
    legs = bench.prepare(STAGES[: STAGES.index(until) + 1] if options.stages else [until])
    for leg in legs:
        print(
            f"undisturbed until {leg.until}: {leg.length_s:.1f} s, {len(leg.operations)} operations on files, "
            f"{len(leg.results)} results",
            flush=True,
        )
    generator = random.Random(options.seed)
    if options.moments == "times":
        plan = random_times(legs, generator, kills=options.kills, per_run=options.per_run)
    else:
        power = options.moments == "power"
        plan = operations(legs, generator, kills=options.kills, per_run=options.per_run, power=power, at=options.at)
    failed, kills, leftovers = 0, 0, 0
    for number, (leg, moments) in enumerate(plan, start=1):
        name = f"run{number}"
        outcome = bench.kill(name, moments, leg)
        wrong = outcome.verdict != "equal" or (options.tidy and bool(outcome.leftovers))
        _tell(number, outcome)
        failed, kills, leftovers = failed + wrong, kills + len(outcome.kills), leftovers + len(outcome.leftovers)
        if not (wrong and options.keep):
            bench.remove(name)
    print(f"{kills} kills: {failed} runs failed, {leftovers} temporary files stayed")
    return 1 if failed else 0


def _tell(number: int, outcome: Outcome) -> None:
    for kill in outcome.kills:
        print(f"{number:4} | {kill.moment!s:24} | {kill.stage:8} | {kill.operation}")
    words = " ".join(outcome.verdict.split())
    shown = words if len(words) <= _SHOWN else f"{words[:20]} ... {words[-_SHOWN:]}"
    left = f", left over: {', '.join(outcome.leftovers)}" if outcome.leftovers else ""
    print(
        f"{number:4} | {len(outcome.kills)} restarts, {outcome.duration_s:.0f} s: {shown}{left}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
