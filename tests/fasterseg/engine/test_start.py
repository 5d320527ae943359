"""How a training stage starts: the settings that decide it, and what is left to do."""

from pathlib import Path

import pytest
import torch

from fasterseg.base.devices import DeviceConfig
from fasterseg.engine.config import TrainingConfig
from fasterseg.engine.devices import build_fabric
from fasterseg.engine.run_folder import open_run_folder
from fasterseg.engine.start import begin_stage, stage_settings


class Config(TrainingConfig):
    batch_size: int = 3


CONFIG = Config(epochs=2, lr=0.1, lr_decay=0.9, device=DeviceConfig(accelerator="cpu"))


def test_settings_hold_what_decides_the_result() -> None:
    fabric = build_fabric(CONFIG.device)
    settings = stage_settings(
        "teacher", CONFIG, fabric=fabric, seed=4, dataset={"root": "data"}, origins={"dataset": "ab"}, target={"ms": 1}
    )
    assert list(settings) == ["seed", "dataset", "target", "teacher", "origins"]
    assert settings["teacher"]["images_per_step"] == 3 and "device" not in settings["teacher"]


def test_a_stage_is_checked_and_seeded_once_and_not_when_it_is_done(tmp_path: Path) -> None:
    fabric = build_fabric(CONFIG.device)
    checked: list[int] = []
    with open_run_folder(tmp_path / "run", stage="teacher", settings={}, fabric=fabric) as run_folder:

        def begin() -> bool:
            return begin_stage(run_folder, run_folder.best, fabric=fabric, seed=7, check=lambda: checked.append(1))

        assert begin() and checked == [1]
        first = torch.rand(3)
        assert begin() and torch.equal(torch.rand(3), first)
        run_folder.finish({})
        with pytest.raises(ValueError, match="is gone, although the teacher stage"):
            begin()
        run_folder.best.write_bytes(b"")
        assert not begin() and len(checked) == 2
