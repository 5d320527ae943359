"""Saving within epochs and going on: a run that was cut anywhere ends bit for bit like one that was not."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset, Sampler

from fasterseg.base.errors import DamagedFileError
from fasterseg.base.stopping import Stopped, leave_stopping_to_parent
from fasterseg.engine.checkpoint import load_state
from tests.tiny_stage import EPOCHS, STEPS, run_tiny_stage

ROOT = Path(__file__).resolve().parents[3]
ALWAYS = 0.0


class Cut(Exception):  # noqa: N818 - no error
    """Stands for whatever ends a run without asking."""


def cutting(at: int) -> Callable[[int], None]:
    def cut(step: int) -> None:
        if step == at:
            raise Cut

    return cut


def signalling(at: int, number: int = signal.SIGTERM) -> Callable[[int], None]:
    def send(step: int) -> None:
        if step == at:
            os.kill(os.getpid(), number)

    return send


def same_end(first: Path, second: Path) -> bool:
    """Whether two runs left the same states and the same figures, bit for bit."""
    one, other = (load_state(path / "last.pt") for path in (first, second))
    for state in (one, other):
        state["loop"].pop("duration_s")
    return (first / "metrics.jsonl").read_text() == (second / "metrics.jsonl").read_text() and equal(one, other)


def equal(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return (
            isinstance(other, dict) and one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
        )
    if isinstance(one, list | tuple):
        return isinstance(other, list | tuple) and len(one) == len(other) and all(map(equal, one, other))
    return one == other


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never cut."""
    path = tmp_path_factory.mktemp("whole") / "run"
    run_tiny_stage(path)
    return path


def test_saving_within_epochs_changes_nothing(whole: Path, tmp_path: Path) -> None:
    run_tiny_stage(tmp_path / "run", save_every_minutes=ALWAYS)
    assert same_end(whole, tmp_path / "run")


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cuts=st.lists(st.tuples(st.integers(0, EPOCHS * STEPS - 1), st.booleans()), min_size=1, max_size=4),
    often=st.booleans(),
)
def test_any_cuts_end_like_none(
    whole: Path, tmp_path_factory: pytest.TempPathFactory, cuts: list[tuple[int, bool]], often: bool
) -> None:
    path = tmp_path_factory.mktemp("cut") / "run"
    every = ALWAYS if often else 10.0
    for step, by_signal in cuts:
        with contextlib.suppress(Cut, Stopped):
            run_tiny_stage(path, save_every_minutes=every, on_step=(signalling if by_signal else cutting)(step))
    run_tiny_stage(path, save_every_minutes=every)
    assert same_end(whole, path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_after_its_step_with_all_of_it_saved(whole: Path, tmp_path: Path, number: int) -> None:
    path = tmp_path / "run"
    name = signal.Signals(number).name
    with pytest.raises(Stopped) as caught:
        run_tiny_stage(path, on_step=signalling(7, number))
    assert caught.value.exit_code == 128 + number
    expected = rf"student: stopped by {name}; {path / 'last.pt'} holds everything up to step 8: run the same command"
    assert caught.value.message.startswith(expected)
    assert f"stopped by {name} after step 8 of 20" in (path / "log.txt").read_text()
    steps: list[int] = []
    run_tiny_stage(path, on_step=steps.append)
    assert steps == list(range(8, EPOCHS * STEPS))
    assert "goes on after step 3 of 5 of epoch 2" in (path / "log.txt").read_text()
    assert same_end(whole, path)


def test_a_signal_in_the_last_step_of_an_epoch_ends_it_after_the_epoch(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    with pytest.raises(Stopped, match="up to step 5"):
        run_tiny_stage(path, on_step=signalling(4))
    run_tiny_stage(path)
    assert same_end(whole, path)


def test_how_often_figures_are_recorded_may_change_on_the_way(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with pytest.raises(Stopped):
        run_tiny_stage(path, log_every=4, on_step=signalling(2))
    run_tiny_stage(path, log_every=2)
    lines = [line for line in (path / "metrics.jsonl").read_text().splitlines() if "train/" in line]
    assert [line.split(",")[0] for line in lines[:3]] == ['{"step": 4', '{"step": 5', '{"step": 7']


def test_a_loss_that_is_not_finite_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not finite at step 11"):
        run_tiny_stage(tmp_path / "run", save_every_minutes=ALWAYS, nan_at=11)
    loop = load_state(tmp_path / "run" / "last.pt")["loop"]
    assert (loop["epoch"], loop["steps_in_epoch"]) == (2, 1)


@pytest.mark.parametrize("damage", ["empty", "torn", "rotten", "gone"])
def test_a_damaged_state_gives_way_to_the_one_before(
    whole: Path, tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run"
    with pytest.raises(Cut):
        run_tiny_stage(path, save_every_minutes=ALWAYS, on_step=cutting(13))
    data = bytearray((path / "last.pt").read_bytes())
    middle = len(data) // 2
    data[middle] ^= 1
    content = {"empty": b"", "torn": bytes(data[:middle]), "rotten": bytes(data), "gone": b""}[damage]
    (path / "last.pt").write_bytes(content)
    if damage == "gone":
        (path / "last.pt").unlink()
    steps: list[int] = []
    run_tiny_stage(path, on_step=steps.append)
    assert steps[0] == 12
    said = f"last.pt is {'gone' if damage == 'gone' else 'damaged'}; goes back to the state before it"
    assert said in (path / "log.txt").read_text()
    assert same_end(whole, path)


def test_two_damaged_states_are_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "run"
    run_tiny_stage(path, epochs=2)
    for name in ("last.pt", "last.previous.pt"):
        (path / name).write_bytes(b"")
    with pytest.raises(
        DamagedFileError, match=r"last\.pt.*last\.previous\.pt.*to start the stage anew, delete last\.pt"
    ):
        run_tiny_stage(path)


def test_a_state_of_an_older_release_goes_on(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    with pytest.raises(Cut):
        run_tiny_stage(path, on_step=cutting(11))
    state = load_state(path / "last.pt")
    del state["loop"]["steps_in_epoch"], state["losses"]
    torch.save(state, path / "last.pt")
    run_tiny_stage(path)
    assert same_end(whole, path)


class Numbers(Dataset[torch.Tensor]):
    def __getitem__(self, key: int) -> torch.Tensor:
        return torch.randn(3, generator=torch.Generator().manual_seed(key))


class Order(Sampler[int]):
    first, start = 0, 0

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first + self.start, self.first + 4 * STEPS))

    def __len__(self) -> int:
        return 4 * STEPS


class WorkerLoader(DataLoader[torch.Tensor]):
    """Batches from worker processes."""

    def __init__(self, num_workers: int) -> None:
        self.order = Order()
        super().__init__(
            Numbers(),
            batch_size=4,
            sampler=self.order,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            worker_init_fn=lambda _: leave_stopping_to_parent(),
            generator=torch.Generator(),
        )

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        self.order.first, self.order.start = epoch * 4 * STEPS, 4 * start


def test_workers_give_the_same_after_a_signal(tmp_path: Path) -> None:
    for name, workers in (("none", 0), ("two", 2)):
        with pytest.raises(Stopped):
            run_tiny_stage(tmp_path / name, loader=WorkerLoader(workers), on_step=signalling(12))
        run_tiny_stage(tmp_path / name, loader=WorkerLoader(workers))
    run_tiny_stage(tmp_path / "whole", loader=WorkerLoader(2))
    assert same_end(tmp_path / "none", tmp_path / "two") and same_end(tmp_path / "two", tmp_path / "whole")


def main(path: Path, what: str) -> None:
    """A run as a program of its own: a slow one, or one of two processes of which the second gets a signal."""
    from fasterseg.base.commandline import run_app

    def tell(step: int) -> None:
        print(f"step {step}", flush=True)
        time.sleep(0.3)

    def signal_second(step: int) -> None:
        if step == 7 and os.environ.get("LOCAL_RANK") == "1" and what == "signal":
            os.kill(os.getpid(), signal.SIGTERM)

    if what == "slow":
        run_app(lambda **_: run_tiny_stage(path, loader=WorkerLoader(2), on_step=tell))  # type: ignore[arg-type]
    else:
        run_app(lambda **_: run_tiny_stage(path, devices=2, on_step=signal_second))  # type: ignore[arg-type]


def run_main(path: Path, what: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(Path(__file__)), str(path), what],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_two_processes_stop_after_the_same_step_and_go_on(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    process = run_main(path, "signal")
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 143, errors
    assert "holds everything up to step 8: run the same command again" in errors and "Traceback" not in errors
    loop = load_state(path / "last.pt")["loop"]
    assert (loop["epoch"], loop["steps_in_epoch"]) == (1, 3)
    process = run_main(path, "go on")
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert "goes on after step 3 of 5 of epoch 2" in output
    assert (path / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()
    assert equal(load_state(path / "last.pt")["stage"], load_state(whole / "last.pt")["stage"])


def processes_of(group: int) -> list[int]:
    """The processes of a group that have not ended."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[2]) == group and fields[0] != "Z":
                found.append(int(folder.name))
    return found


@pytest.mark.skipif(not Path("/proc").exists(), reason="reads /proc")
@pytest.mark.parametrize(
    ("number", "to_group"),
    [
        (signal.SIGTERM, True),
        pytest.param(signal.SIGTERM, False, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, True, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, True, marks=pytest.mark.slow),
    ],
)
def test_no_process_is_left_and_the_step_is_saved(tmp_path: Path, number: int, to_group: bool) -> None:
    process = run_main(tmp_path / "run", "slow")
    assert process.stdout is not None and process.stderr is not None
    for line in process.stdout:
        if line == "step 7\n":
            break
    assert len(processes_of(process.pid)) >= 3
    (os.killpg if to_group else os.kill)(process.pid, number)
    output, errors = process.stdout.read(), process.stderr.read()
    assert process.wait(timeout=60) == 128 + number, output + errors
    time.sleep(0.5)
    assert processes_of(process.pid) == []
    assert "holds everything up to step 8: run the same command again to go on" in errors, errors
    assert "Traceback" not in errors
    loop = load_state(tmp_path / "run" / "last.pt")["loop"]
    assert (loop["epoch"], loop["steps_in_epoch"]) == (1, 3)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
