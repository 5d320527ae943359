"""A session as what a `Predictor` runs on, so that accuracy is measured on what is deployed."""

import numpy as np
import torch

from fasterseg.networks import Size
from latency.runners.base import Session


class SessionBackend:
    """Computes logits with a runner's session: a `fasterseg.runtime.predictor.Backend`.

    Args:
        session: A deployed network, prepared for batches of one image.

    Attributes:
        fixed_size: The only (height, width) it takes.

    Raises:
        ValueError: The session takes batches of another size.
    """

    def __init__(self, session: Session) -> None:
        batch_size, _, height, width = session.input_shape
        if batch_size != 1:
            raise ValueError(f"the session was prepared for batches of {batch_size}, expected 1")
        self._session = session
        self.fixed_size: Size | None = (height, width)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Maps normalised (N, 3, H, W) to logits (N, num_classes, H, W) on the CPU, image by image."""
        outputs = [self._session.run(image[None].cpu().float().numpy()) for image in images]
        return torch.from_numpy(np.concatenate(outputs))
