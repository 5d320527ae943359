from typing import Any

import pytest
from pydantic import ValidationError

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
