import json
from pathlib import Path
from typing import Any

import pytest
import torch

from fasterseg.engine.checkpoint import load_state
from fasterseg.networks import Architecture
from latency.table import LatencyTable
from search.parameters import INITIAL_LOGIT


def losses(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["train/loss"] for line in lines if "train/loss" in line]


def test_both_stages_and_their_products(runner: Any) -> None:
    folder = runner.search()
    table = LatencyTable.load(runner.folder / "latency_table.json")
    summary = json.loads((folder / "summary.json").read_text())
    for name in ("student", "student_last"):
        student = Architecture.load(folder / f"architecture_{name}.json")
        assert student.head_width == 0.5
        assert table.predict_architecture(student) <= summary["budget_ms"]
    for name in ("teacher", "teacher_last"):
        teacher = Architecture.load(folder / f"architecture_{name}.json")
        assert {cell.width for branch in teacher.branches for cell in branch} == {1.0}
    plots = {path.name for path in (folder / "plots").iterdir()}
    assert {"student_paths.png", "student_widths.png", "student_operators.png", "epochs.png"} <= plots
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    last = {name: value for record in records for name, value in record.items()}
    assert {"epoch/expected_ms", "epoch/derived_ms", "epoch/predicted_ms", "epoch/latency_weight"} <= set(last)
    assert summary["predicted_ms"] <= summary["budget_ms"]
    state = load_state(folder / "last.pt")["stage"]["supernet"]
    moved = [name for name in state if name.startswith("architectures.") and state[name].shape[1] > 1]
    assert moved
    assert all((state[name] != INITIAL_LOGIT).any() for name in moved)


def test_same_seed_gives_the_same_search_and_another_seed_another(runner: Any) -> None:
    first, second = runner.search("first"), runner.search("second")
    assert losses(first) == losses(second)
    for name in ("student", "teacher"):
        file = f"architecture_{name}.json"
        assert (first / file).read_text() == (second / file).read_text()
    other = runner.search("third", "seed=1", "search.epochs=1")
    assert losses(other)[0] != losses(first)[0]


def test_a_search_that_was_cut_off_goes_on_exactly(runner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = runner.search("whole")
    from search.stage import SearchStage

    step, calls = SearchStage.step, []

    def cut(self: SearchStage, batch: Any, position: Any) -> Any:
        calls.append(position)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return step(self, batch, position)

    monkeypatch.setattr(SearchStage, "step", cut)
    with pytest.raises(KeyboardInterrupt):
        runner.search("cut")
    monkeypatch.undo()
    resumed = runner.search("cut")
    assert (resumed / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()
    states = [load_state(folder / "last.pt")["stage"]["supernet"] for folder in (whole, resumed)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_pretraining_trains_both_sets_and_leaves_the_architecture_alone(runner: Any) -> None:
    runner.pretrain("short", "pretrain.epochs=1")
    runner.pretrain("long", "pretrain.epochs=2")
    short, long = (load_state(runner.folder / name / "best.pt")["weights"] for name in ("short", "long"))
    for name in short:
        if name.startswith("architectures."):
            assert (long[name] == INITIAL_LOGIT).all()
    for part in ("parts.teacher.stem", "parts.student.stem", "parts.teacher.head_8", "parts.student.head_32_16"):
        weights = [name for name in short if name.startswith(part) and name.endswith("conv.weight")]
        assert all((short[name] != long[name]).any() for name in weights), part


def test_loss_decreases(runner: Any) -> None:
    folder = runner.pretrain("pretrain", "pretrain.iterations_per_epoch=6", "pretrain.lr=0.05").parent
    values = losses(folder)
    assert values[-1] < 0.9 * values[0]


def test_decoupled_regularizer_and_single_pair_run(runner: Any) -> None:
    settings = (
        "search.epochs=1",
        "search.latency={regularizer: decoupled, branches: 32-8}",
        "search.architecture.passes=sampled",
    )
    folder = runner.search("decoupled", *settings)
    assert Architecture.load(folder / "architecture_student.json").ends == (32, 8)


def test_a_sampled_search_moves_both_architectures(runner: Any) -> None:
    folder = runner.search("sampled", "search.relaxation=sampled")
    assert Architecture.load(folder / "architecture_student.json").head_width == 0.5
    state = load_state(folder / "last.pt")["stage"]["supernet"]
    moved = [name for name in state if name.startswith("architectures.") and state[name].shape[1] > 1]
    assert all((state[name] != INITIAL_LOGIT).any() for name in moved)
    assert losses(folder) != losses(runner.search("mixture"))


def test_unreachable_budget_is_named_before_anything_is_written(runner: Any) -> None:
    settings = ("target.budget_share=null", "target.budget_ms=0.0001")
    with pytest.raises(ValueError, match=r"budget_ms 0.0001 cannot be reached.*fastest"):
        runner.search("search", *settings)
    assert not (runner.folder / "search").exists()


def test_a_supernet_of_another_space_is_refused(runner: Any) -> None:
    other = runner.pretrain("pretrain", "space.layers=9", "pretrain.epochs=1", "pretrain.iterations_per_epoch=1")
    with pytest.raises(ValueError, match=r"another space: layers 9 \(asked for: 8\)"):
        runner.search(pretrained=other)


def test_without_pretraining_the_message_says_how(runner: Any) -> None:
    with pytest.raises(FileNotFoundError, match="python -m search pretrain"):
        runner.search(pretrained=runner.folder / "best.pt")


def test_unknown_operator(runner: Any) -> None:
    with pytest.raises(ValueError, match=r"unknown operator 'conv_3x'.*conv_2x"):
        runner.pretrain("pretrain", "space.operators=[skip, conv_3x]")


@pytest.mark.slow
def test_a_tighter_budget_gives_a_faster_student(runner: Any) -> None:
    """Real short searches: the latency term moves every expectation, the students keep their budgets.

    A single short search without pressure may derive a fast student by chance, so those are compared on average.
    """

    def search(seed: int, share: float) -> dict[str, float]:
        settings = (
            f"seed={seed}",
            f"target.budget_share={share}",
            "search.epochs=5",
            "search.iterations_per_epoch=6",
            "search.latency.control_factor=4",
            "search.validate_every=5",
        )
        folder = runner.search(f"seed{seed}_share{share}", *settings)
        summary: dict[str, float] = json.loads((folder / "summary.json").read_text())
        assert summary["predicted_ms"] <= summary["budget_ms"]
        return summary

    tight, loose = ([search(seed, share) for seed in range(3)] for share in (0.01, 0.6))
    for one, other in zip(tight, loose, strict=True):
        assert one["expected_ms"] < other["expected_ms"]
    assert sum(each["predicted_ms"] for each in tight) < sum(each["predicted_ms"] for each in loose)
