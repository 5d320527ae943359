"""Records what a small run of the whole pipeline gives, to the last digit, so that a refactor can be held against it.

    python -m tests.reliability.record_pipeline --out before.json
    python -m tests.reliability.record_pipeline --compare before.json
    python -m tests.reliability.record_pipeline --compare before.json --root ../another_checkout

The latency table is one of made-up times, so that a record depends on the processor and the libraries, but not on how
fast the machine was; a record is not for another machine. The pipeline runs as a program of its own, and its results
are read from its files: nothing of the project is imported, so the script works on any state of the code.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from tests.reliability.fixed_table import TABLE_NAME, fix_table  # noqa: E402 - when run by path, only now known
from tests.reliability.results import describe_differences, read_digests, read_results  # noqa: E402

TINY = Path(__file__).with_name("tiny.yaml")
_LIBRARIES = ("torch", "numpy", "onnx", "onnxruntime", "onnxscript", "opencv-python-headless", "matplotlib")


def run_pipeline(folder: Path, experiment: str, settings: Sequence[str], *, until: str, root: Path = ROOT) -> Path:
    """Runs an experiment in a folder, by the code of a checkout, over a table of made-up times.

    Returns:
        The experiment's run folder.

    Raises:
        RuntimeError: A stage failed; the message ends in what it said.
    """
    file = folder / "experiment.yaml"
    file.write_text(experiment, encoding="utf-8")
    runs = folder / "runs" / str(yaml.safe_load(experiment)["name"])
    command = [sys.executable, str(root / "pipeline.py"), "--config", file.name]
    for setting in settings:
        command += ["--set", setting]
    _run([*command, "--until", "latency"], folder, root)
    fix_table(runs / TABLE_NAME)
    _run([*command, "--until", until], folder, root)
    return runs


def _run(command: Sequence[str], folder: Path, root: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr}")


def make_record(
    experiment: str, settings: Sequence[str], *, until: str, root: Path = ROOT, keep: Path | None = None
) -> dict[str, Any]:
    """Runs an experiment and gives its results with what they depend on.

    Args:
        experiment: Text of the experiment file.
        settings: Of the form section.field=value.
        until: The last stage to run.
        root: The checkout whose code runs.
        keep: A new folder to run in; None takes one that is removed at the end.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) if keep is None else keep
        folder.mkdir(parents=True, exist_ok=keep is None)
        runs = run_pipeline(folder, experiment, settings, until=until, root=root)
        results = {
            **read_results(runs),
            **{f"data/{name}": value for name, value in read_digests(folder / "data").items()},
        }
    return {
        "experiment": experiment,
        "settings": list(settings),
        "until": until,
        "machine": platform.processor() or platform.machine(),
        "versions": {name: metadata.version(name) for name in _LIBRARIES},
        "results": results,
    }


def compare(before: dict[str, Any], after: dict[str, Any]) -> int:
    """Prints each difference between two records; returns how many there are."""
    for key in ("machine", "versions"):
        if before[key] != after[key]:
            print(f"note: {key} was {before[key]}, is {after[key]}; results may differ for that alone")
    lines = describe_differences(before["results"], after["results"])
    for line in lines:
        print(line)
    print(f"{len(lines)} differences in {len(before['results'])} recorded results")
    return len(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the record here")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="run the same again and print what differs")
    parser.add_argument("--experiment", type=Path, default=TINY, help="the experiment file; tiny.yaml when not given")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="SECTION.FIELD=VALUE")
    parser.add_argument("--until", default="report", help="the last stage to run")
    parser.add_argument("--root", type=Path, default=ROOT, metavar="CHECKOUT", help="run the code of this checkout")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="run in this new folder and leave it")
    options = parser.parse_args(arguments)
    if options.out is None and options.compare is None:
        parser.error("say --out FILE, --compare FILE or both")
    before: dict[str, Any] | None = None
    experiment, settings, until = options.experiment.read_text(encoding="utf-8"), options.settings, options.until
    if options.compare is not None:
        before = json.loads(options.compare.read_text(encoding="utf-8"))
        experiment, until = before["experiment"], before["until"]
        settings = [*before["settings"], *settings]
    after = make_record(experiment, settings, until=until, root=options.root.resolve(), keep=options.keep)
    if options.out is not None:
        options.out.write_text(json.dumps(after, indent=1) + "\n", encoding="utf-8")
        print(f"wrote {options.out}: {len(after['results'])} results")
    return 0 if before is None or compare(before, after) == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
