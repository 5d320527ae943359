from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fasterseg.engine.checkpoint import DatasetFacts, NetworkCheckpoint
from fasterseg.networks import SegmentationLogits
from fasterseg.networks.network import Network
from fasterseg.runtime.load import load_predictor
from fasterseg.runtime.predictor import Predictor, normalized_batch


class Brightness(Network):
    """Classes by the red channel's brightness, at the image's own size."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.scale = torch.nn.Parameter(torch.ones(()))
        self.seen: list[tuple[int, ...]] = []

    def forward(self, image: torch.Tensor) -> SegmentationLogits:
        """Scores each class by the distance of the red value to the class's index."""
        self.seen.append(tuple(image.shape))
        classes = torch.arange(self.num_classes).view(1, -1, 1, 1)
        return SegmentationLogits(-((image[:, :1] * self.scale - classes) ** 2))


def street(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def facts(num_classes: int) -> DatasetFacts:
    return DatasetFacts(
        class_names=tuple(f"class {index}" for index in range(num_classes)),
        colors=((0, 0, 0),) * num_classes,
        ignore_index=65535,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    )


def test_normalisation_is_per_channel_rgb(dataset: DatasetFacts) -> None:
    image = np.array([[[0, 51, 255], [102, 0, 0]]], np.uint8)
    batch = normalized_batch(image, dataset)
    assert batch.shape == (1, 3, 1, 2)
    assert batch.dtype == torch.float32
    expected = [[(0 - 0.3) / 0.2, (0.4 - 0.3) / 0.2], [(0.2 - 0.4) / 0.25, -0.4 / 0.25], [0.5 / 0.3, -0.5 / 0.3]]
    torch.testing.assert_close(batch[0, :, 0], torch.tensor(expected))


@pytest.mark.parametrize("size", [(64, 96), (67, 101), (33, 40), (1, 1)])
def test_both_backends_answer_at_the_images_own_size(
    checkpoint_file: Path, onnx_file: Path, size: tuple[int, int]
) -> None:
    image = street(*size)
    for path in (checkpoint_file, onnx_file):
        ids = load_predictor(path).predict(image)
        assert (ids.shape, ids.dtype) == (size, np.uint8)
        assert ids.max() < 4


@pytest.mark.parametrize("size", [(64, 96), (67, 101)])
def test_an_exported_file_equals_its_checkpoint_at_the_same_input_size(
    checkpoint_file: Path, onnx_file: Path, size: tuple[int, int]
) -> None:
    batch = torch.randn(2, 3, *size)
    ours = load_predictor(checkpoint_file, input_size=(64, 96)).logits(batch)
    exported = load_predictor(onnx_file, threads=1).logits(batch)
    assert ours.shape == (2, 4, *size)
    torch.testing.assert_close(exported, ours, rtol=1e-4, atol=1e-4)


def test_a_checkpoint_runs_at_the_images_own_size_or_as_told() -> None:
    network = Brightness(2).eval()
    Predictor.from_network(network, facts(2)).predict(street(5, 7))
    Predictor.from_network(network, facts(2), input_size=(8, 12)).predict(street(5, 7))
    assert network.seen == [(1, 3, 5, 7), (1, 3, 8, 12)]


def test_many_classes_take_two_bytes() -> None:
    image = np.full((2, 2, 3), 255, np.uint8)
    for count, kind in ((256, np.uint8), (257, np.uint16)):
        # brightness 1 / std 1/300 = class 300 at most
        dataset = replace(facts(count), std=(1 / 300, 1.0, 1.0))
        ids = Predictor.from_network(Brightness(count).eval(), dataset).predict(image)
        assert ids.dtype == kind
        assert (ids == count - 1).all()


def test_a_network_in_training_stays_as_it_was(checkpoint: NetworkCheckpoint) -> None:
    network = checkpoint.build().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    image = street(64, 96)
    found = Predictor.from_network(network, checkpoint.dataset).predict(image)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    expected = Predictor.from_network(checkpoint.build(), checkpoint.dataset).predict(image)
    assert (found == expected).all()


def test_a_network_in_training_is_restored_after_a_failure(checkpoint: NetworkCheckpoint) -> None:
    network = checkpoint.build().train()
    with pytest.raises(RuntimeError):
        Predictor.from_network(network, checkpoint.dataset).logits(torch.randn(1, 4, 8, 8))
    assert network.training


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)],
    ids=["grey", "four channels", "float", "empty"],
)
def test_arrays_that_are_no_rgb_image_are_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected RGB \(H, W, 3\) uint8"):
        Predictor.from_network(Brightness(2).eval(), facts(2)).predict(image)


def test_an_impossible_input_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"input_size is \(0, 8\)"):
        Predictor.from_network(Brightness(2), facts(2), input_size=(0, 8))
