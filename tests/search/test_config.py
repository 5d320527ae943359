from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from fasterseg.base.experiment import load_experiment
from search.config import LatencyObjectiveConfig, PretrainConfig, SearchConfig


def test_defaults_are_the_published_schedule() -> None:
    pretrain, search = PretrainConfig(), SearchConfig()
    assert (pretrain.epochs, pretrain.lr, pretrain.crop_size_px, pretrain.batch_size) == (20, 2e-2, (256, 512), 3)
    assert (search.epochs, search.lr, search.crop_size_px, search.batch_size) == (30, 1e-2, (224, 448), 2)
    assert (search.architecture.lr, search.architecture.betas) == (3e-4, (0.5, 0.999))
    assert (search.lr_decay, search.momentum, search.weight_decay, search.grad_clip) == (0.978, 0.9, 5e-4, 5)


@pytest.mark.parametrize(
    ("branches", "pairs"), [("mean", ((32, 16), (32, 8))), ("32-16", ((32, 16),)), ("32-8", ((32, 8),))]
)
def test_branches_name_pairs(branches: str, pairs: Any) -> None:
    assert LatencyObjectiveConfig(branches=branches).pairs == pairs


def test_crop_must_be_divisible_by_32() -> None:
    with pytest.raises(ValidationError, match="width 100 is not divisible by 32; use 96 or 128"):
        SearchConfig(crop_size_px=(96, 100))


@pytest.mark.parametrize("section", ["pretrain", "search"])
def test_hard_example_mining_has_the_name_it_has_in_training(tmp_path: Path, section: str) -> None:
    file = tmp_path / "experiment.yaml"
    file.write_text(f"{section}: {{ohem: {{threshold: 0.5}}}}")
    models = {"pretrain": PretrainConfig, "search": SearchConfig}
    experiment = load_experiment(file, [], models)
    assert experiment.section(section, models[section]).ohem.threshold == 0.5
    with pytest.raises(ValueError, match=f"{section}.ohem_threshold: unknown key; did you mean 'ohem'"):
        load_experiment(file, [f"{section}.ohem_threshold=0.5"], models)
