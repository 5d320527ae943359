"""`train evaluate --follow`: every checkpoint of a run is evaluated once, and the evaluator ends with the run."""

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fasterseg.base.experiment import Experiment, load_experiment
from fasterseg.engine.checkpoint import load_network, load_state, save_state
from train import evaluate, stages
from train.__main__ import app
from train.follow import Following, run_follow
from train.stages import run_baseline


@pytest.fixture
def experiment(write_experiment: Callable[..., Path]) -> Experiment:
    return load_experiment(write_experiment(epochs=2, iterations_per_epoch=1), [], evaluate.SECTIONS)


@pytest.fixture
def run(experiment: Experiment, tmp_path: Path) -> Path:
    trained = load_experiment(experiment.source, [], stages.BASELINE_SECTIONS)
    return run_baseline(trained, "icnet", out=tmp_path / "icnet").parent


def records(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_finished_run_is_evaluated_and_left(experiment: Experiment, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run_follow(experiment, Following(run), out=out) == [2]
    (record,) = records(out)
    trained = [line for line in records(run) if "epoch/miou" in line][-1]
    assert record["validation/miou"] == pytest.approx(trained["epoch/miou"], abs=1e-3)
    assert record["validation/loss"] > 0 and "validation/iou/sky" in record and record["step"] == 2
    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    assert {"validation/miou", "validation/loss"} <= set(events.Tags()["scalars"])
    assert events.Tags()["images"] == ["examples/0", "examples/1"]
    # what was evaluated once is not evaluated again
    assert run_follow(experiment, Following(run), out=out) == []
    assert len(records(out)) == 1


def test_new_checkpoints_are_seen_until_the_run_ends(experiment: Experiment, run: Path, tmp_path: Path) -> None:
    summary, last = (run / "summary.json").read_text(), load_state(run / "last.pt")
    (run / "summary.json").unlink()

    def put(epoch: int) -> None:
        state = {name: value for name, value in last.items() if name not in ("format", "version")}
        save_state(run / "last.pt", {**state, "loop": {**state["loop"], "epoch": epoch}})

    put(1)
    out, found = tmp_path / "out", list[int]()
    follower = threading.Thread(
        target=lambda: found.extend(run_follow(experiment, Following(run, every_s=0.05), out=out))
    )
    follower.start()
    _wait(lambda: (out / "metrics.jsonl").is_file() and len(records(out)) == 1)
    assert follower.is_alive()
    put(2)
    _wait(lambda: len(records(out)) == 2)
    (run / "summary.json").write_text(summary)
    follower.join(timeout=300)
    assert not follower.is_alive() and found == [1, 2]
    assert [record["step"] for record in records(out)] == [1, 2]
    assert json.loads((out / "summary.json").read_text())["last_epoch"] == 2


def test_once_takes_what_is_there(
    experiment: Experiment, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "summary.json").unlink()
    arguments = ["--follow", str(run), "--once", "--config", str(experiment.source), "--out", str(tmp_path / "out")]
    app(["evaluate", *arguments], standalone_mode=False)
    assert "evaluated 1 checkpoint(s)" in capsys.readouterr().out
    assert not (tmp_path / "out/summary.json").exists()


def test_what_cannot_be_followed_is_named(experiment: Experiment, run: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="so it is not the run folder of a teacher, student or baseline"):
        Following(tmp_path)
    with pytest.raises(ValueError, match="every_s is 0, expected seconds above 0"):
        Following(run, every_s=0)
    architecture = load_network(run / "best.pt").architecture.to_dict()
    (run / "architecture.json").write_text(json.dumps({**architecture, "width_factor": 0.25}))
    with pytest.raises(ValueError, match=r"last\.pt does not hold the network that architecture\.json"):
        run_follow(experiment, Following(run), out=tmp_path / "out")
    with pytest.raises(ValueError, match="--follow evaluates the run's own checkpoints"):
        arguments = ["a.pt", "--follow", str(run), "--config", str(experiment.source)]
        app(["evaluate", *arguments], standalone_mode=False)


def _wait(condition: Callable[[], bool]) -> None:
    """Waits until a condition holds, five minutes at most."""
    event = threading.Event()
    for _ in range(6000):
        if condition():
            return
        event.wait(0.05)
    raise AssertionError("waited in vain")
