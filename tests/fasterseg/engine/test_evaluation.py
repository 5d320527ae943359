"""Inference modes on predictors whose answer is known."""

from typing import Any, NamedTuple

import pytest
import torch
from torch.nn import functional

from fasterseg.engine.evaluation import InferenceMode, evaluate, infer


class Batch(NamedTuple):
    image: torch.Tensor
    label: torch.Tensor


def pointwise(image: torch.Tensor) -> torch.Tensor:
    """Class scores that depend on the pixel alone, at full resolution."""
    return torch.stack([image[:, 0], -image[:, 0], image[:, 1]], dim=1)


def strided(image: torch.Tensor) -> torch.Tensor:
    return functional.avg_pool2d(pointwise(image), 8, ceil_mode=True)


MODES = [
    InferenceMode(),
    InferenceMode(window_size_px=(16, 16)),
    InferenceMode(window_size_px=(16, 24), window_overlap=0.0),
    InferenceMode(window_size_px=(64, 64)),
    InferenceMode(flip=True),
    InferenceMode(window_size_px=(16, 16), flip=True),
]


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_gives_a_pointwise_predictor_its_own_answer(mode: InferenceMode) -> None:
    image = torch.randn(2, 3, 37, 53, generator=torch.Generator().manual_seed(0))
    assert torch.equal(infer(pointwise, image, mode).argmax(1), pointwise(image).argmax(1))


def test_scores_have_the_size_of_the_image_whatever_the_scales() -> None:
    mode = InferenceMode(scales=(0.5, 1.0, 1.25), flip=True, window_size_px=(32, 32))
    scores = infer(strided, torch.randn(1, 3, 45, 61), mode)
    assert scores.shape == (1, 3, 45, 61)
    assert torch.allclose(scores.sum(1), torch.ones(1, 45, 61), atol=1e-5)


def test_flipping_averages_both_looks() -> None:
    image = torch.randn(1, 3, 8, 8)

    def one_sided(shown: torch.Tensor) -> torch.Tensor:
        ramp = torch.linspace(-3, 3, 8).expand(shown.shape[0], 1, 8, 8)
        return torch.cat([ramp, -ramp], dim=1)

    scores = infer(one_sided, image, InferenceMode(flip=True))
    assert torch.allclose(scores, torch.full_like(scores, 0.5), atol=1e-6)


def test_windows_cover_the_image_and_stay_inside() -> None:
    seen = torch.zeros(40, 50)

    def watch(window: torch.Tensor) -> torch.Tensor:
        rows, columns = window[0, 1].long(), window[0, 2].long()
        seen[rows, columns] += 1
        return window[:, :2]

    rows, columns = torch.meshgrid(torch.arange(40.0), torch.arange(50.0), indexing="ij")
    infer(watch, torch.stack([rows * 0, rows, columns])[None], InferenceMode(window_size_px=(16, 16)))
    assert seen.min() >= 1


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"window_size_px": (0, 8)}, "window_size_px"),
        ({"window_overlap": 1.0}, "window_overlap"),
        ({"scales": ()}, "scales"),
        ({"scales": (0.0,)}, "scales"),
    ],
)
def test_modes_out_of_range_are_refused(arguments: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        InferenceMode(**arguments)


def test_evaluate_scores_and_shows_every_batch() -> None:
    images = [torch.randn(1, 3, 16, 24) for _ in range(3)]
    batches = [Batch(image, pointwise(image).argmax(1)) for image in images]
    shown: list[bool] = []
    scores = evaluate(
        pointwise,
        batches,
        class_names=("a", "b", "c"),
        ignore_index=255,
        on_prediction=lambda batch, prediction: shown.append(torch.equal(batch.label, prediction)),
    )
    assert scores.miou == 1 and shown == [True, True, True]


def test_evaluate_refuses_a_network_of_another_class_count() -> None:
    batch = Batch(torch.randn(1, 3, 16, 16), torch.zeros(1, 16, 16, dtype=torch.int64))
    with pytest.raises(ValueError, match="predicts 3 classes, the dataset has 2 \\(road, car\\)"):
        evaluate(pointwise, [batch], class_names=("road", "car"), ignore_index=255)
