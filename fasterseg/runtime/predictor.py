"""Prediction with a trained network, whatever runs it: a network in memory, a checkpoint, or an exported ONNX file.

Predictions have the image's own size. The engine's evaluation also uses `Predictor.logits`, so that an exported file is
scored by the same code as a network.
"""

from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from fasterseg.base.normalization import normalize
from fasterseg.engine.checkpoint import DatasetFacts
from fasterseg.networks import DeployedNetwork, Network, Size, resize_bilinear
from fasterseg.runtime.card import METADATA_KEY, ModelCard
from fasterseg.runtime.onnx_session import OnnxSession

ClassIds = NDArray[np.uint8] | NDArray[np.uint16]
_MAX_BYTE_CLASSES = 256


class Backend(Protocol):
    """Computes logits: a network or an exported file.

    Attributes:
        fixed_size: The only (height, width) it takes, or None for any.
    """

    fixed_size: Size | None

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Maps normalised (N, 3, H, W) to logits (N, num_classes, H, W) on the CPU."""
        ...


class NetworkBackend:
    """Runs a PyTorch network on the device of its weights, in evaluation mode; its previous mode is restored."""

    fixed_size: Size | None = None

    def __init__(self, network: Network) -> None:
        self._network = network
        self._deployed = DeployedNetwork(network)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """See `Backend`."""
        was_training = self._network.training
        self._network.eval()
        try:
            with torch.inference_mode():
                logits: torch.Tensor = self._deployed(images.to(next(self._network.parameters()).device))
        finally:
            self._network.train(was_training)
        return logits.cpu()


class OnnxBackend:
    """Runs an exported file with ONNX Runtime on the CPU, image by image at the file's size.

    Args:
        path: A file that `fasterseg export` wrote.
        threads: Threads within an operator; one for each available core when None.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, or not from `fasterseg export`.
    """

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        self._session = OnnxSession(path, threads=threads)
        if METADATA_KEY not in self._session.metadata:
            raise ValueError(
                f"{path} carries no '{METADATA_KEY}' metadata, so its classes and normalisation are unknown; "
                "expected a file that `fasterseg export` wrote"
            )
        self.card = ModelCard.from_json(self._session.metadata[METADATA_KEY], str(path))
        height, width = self.card.input_size
        expected = (1, 3, height, width), (1, self.card.dataset.num_classes, height, width)
        if (self._session.input_shape, self._session.output_shape) != expected:
            raise ValueError(
                f"{path} maps {self._session.input_shape} to {self._session.output_shape}, but its metadata say "
                f"{expected[0]} to {expected[1]}; export the checkpoint again with `fasterseg export`"
            )
        self.fixed_size: Size | None = (height, width)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """See `Backend`."""
        arrays = [self._session.run(image[None].cpu().numpy()) for image in images]
        return torch.from_numpy(np.concatenate(arrays))


class Predictor:
    """Class ids and logits of images.

    Args:
        backend: Computes the logits.
        dataset: Classes, colours and normalisation of the network's training data.
        input_size: (height, width) that images are resized to for the network; their own size when None, unless the
            backend has a fixed one. Results always have the image's own size.

    Raises:
        ValueError: The backend has another fixed size.
    """

    def __init__(self, backend: Backend, dataset: DatasetFacts, *, input_size: Size | None = None) -> None:
        fixed = backend.fixed_size
        if fixed is not None and input_size not in (None, fixed):
            raise ValueError(
                f"the exported file is fixed to input size {fixed[0]}x{fixed[1]}, but {input_size} is asked for; "
                "leave --input-size out, or export the checkpoint at that size"
            )
        if input_size is not None and min(input_size) < 1:
            raise ValueError(f"input_size is {input_size}, expected a height and width of at least 1")
        self._backend = backend
        self.dataset = dataset
        self.input_size = input_size if fixed is None else fixed

    @staticmethod
    def from_network(network: Network, dataset: DatasetFacts, *, input_size: Size | None = None) -> "Predictor":
        """The predictor of a network in memory, such as one that is being trained."""
        return Predictor(NetworkBackend(network), dataset, input_size=input_size)

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (N, num_classes, H, W) on the CPU of normalised images (N, 3, H, W)."""
        height, width = int(images.shape[2]), int(images.shape[3])
        shown = images if self.input_size is None else resize_bilinear(images, self.input_size)
        return resize_bilinear(self._backend(shown), (height, width))

    def predict(self, image: NDArray[np.uint8]) -> ClassIds:
        """The class of every pixel.

        Args:
            image: RGB (H, W, 3).

        Returns:
            Train ids (H, W), uint8 up to 256 classes, else uint16.

        Raises:
            ValueError: The array has another shape or type.
        """
        scores = self.logits(normalized_batch(image, self.dataset))
        ids = scores[0].argmax(dim=0).numpy()
        return ids.astype(np.uint8) if self.dataset.num_classes <= _MAX_BYTE_CLASSES else ids.astype(np.uint16)


def normalized_batch(image: NDArray[np.uint8], dataset: DatasetFacts) -> torch.Tensor:
    """An RGB image (H, W, 3) uint8 as the network's input (1, 3, H, W): (x / 255 - mean) / std.

    Raises:
        ValueError: The array has another shape or type.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ValueError(f"the image is {image.shape} {image.dtype}, expected RGB (H, W, 3) uint8")
    return torch.from_numpy(normalize(image, mean=dataset.mean, std=dataset.std)).unsqueeze(0)
