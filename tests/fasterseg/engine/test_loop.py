"""The loop on a tiny stage: exact resume, the best kept, losses that are not finite."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fasterseg.base.devices import DeviceConfig
from fasterseg.engine.checkpoint import load_state
from fasterseg.engine.devices import build_fabric, seed_everything
from fasterseg.engine.loop import run_stage
from fasterseg.engine.run_folder import open_run_folder
from tests.tiny_stage import TinyLoader, TinyStage
from tests.tiny_stage import run_tiny_stage as run


def cutting(at: int) -> Callable[[int], None]:
    """A cut before a step."""

    def cut(step: int) -> None:
        if step == at:
            raise KeyboardInterrupt

    return cut


def weights(stage: TinyStage) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in stage.network.state_dict().items()}


@pytest.mark.parametrize("cut_at", [5, 8, 13], ids=["between epochs", "in epoch 2", "in epoch 3"])
def test_a_cut_run_ends_as_an_uncut_one(tmp_path: Path, cut_at: int) -> None:
    whole, whole_result = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", on_step=cutting(cut_at))
    resumed, result = run(tmp_path / "cut")
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(resumed)[name]), name
    assert (tmp_path / "cut/metrics.jsonl").read_text() == (tmp_path / "whole/metrics.jsonl").read_text()
    assert (result.best_epoch, result.best_figures) == (whole_result.best_epoch, whole_result.best_figures)
    momentum = [load_state(tmp_path / name / "last.pt")["stage"]["optimizer"]["state"] for name in ("whole", "cut")]
    assert all(
        torch.equal(momentum[0][key]["momentum_buffer"], momentum[1][key]["momentum_buffer"]) for key in momentum[0]
    )


def test_two_runs_with_one_seed_are_equal(tmp_path: Path) -> None:
    first, second = (run(tmp_path / name)[0] for name in ("a", "b"))
    assert all(torch.equal(value, weights(second)[name]) for name, value in weights(first).items())
    assert (tmp_path / "a/metrics.jsonl").read_text() == (tmp_path / "b/metrics.jsonl").read_text()


def test_the_best_is_kept(tmp_path: Path) -> None:
    stage, result = run(tmp_path / "run")
    assert stage.best_epochs == [0, 1]
    assert (result.best_epoch, result.best_merit) == (1, 0.9)


def test_validation_happens_when_due_and_after_the_last_epoch(tmp_path: Path) -> None:
    seed_everything(0)
    stage = TinyStage()
    fabric = build_fabric(DeviceConfig(accelerator="cpu"))
    with open_run_folder(tmp_path / "run", stage="student", settings={}) as folder:
        run_stage(stage, TinyLoader(), folder, fabric=fabric, epochs=4, validate_every=3)
    lines = [json.loads(line) for line in (folder.path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "epoch/miou" in line] == [15, 20]


def test_a_loss_that_is_not_finite_stops_the_run_and_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"not finite at step 11 \(epoch 3\): auxiliary_0 = nan.*student.lr"):
        run(tmp_path / "run", nan_at=11)
    assert load_state(tmp_path / "run/last.pt")["loop"]["epoch"] == 2


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    _, first = run(tmp_path / "run")
    stage, second = run(tmp_path / "run", on_step=cutting(0))
    assert second == first and stage.best_epochs == []


def test_a_network_in_place_of_the_state_is_refused(tmp_path: Path) -> None:
    run(tmp_path / "run", epochs=1)
    torch.save({"format": "fasterseg-checkpoint", "version": 1, "kind": "network"}, tmp_path / "run/last.pt")
    with pytest.raises(ValueError, match="not a training state"):
        run(tmp_path / "run")
