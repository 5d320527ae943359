"""Values for golden tests: every weight and input is a function of its reference name (or seed) and shape."""

import math
import zlib
from collections.abc import Sequence

import numpy as np
import torch


def fill(name: str, shape: Sequence[int]) -> torch.Tensor:
    """The value of one parameter or buffer of a reference network."""
    if name.endswith("num_batches_tracked"):
        return torch.zeros(tuple(shape), dtype=torch.int64)
    noise = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(math.prod(shape)).astype(np.float32)
    noise = noise.reshape(tuple(shape))
    if name.endswith("running_var"):
        values = 0.5 + np.abs(noise)
    elif len(shape) == 4:
        values = noise * np.sqrt(2.0 / math.prod(shape[1:]))
    elif name.endswith(("running_mean", "bias")):
        values = 0.1 * noise
    else:
        values = 1 + 0.1 * noise
    return torch.from_numpy(values.astype(np.float32))


def golden_image(seed: int, shape: Sequence[int]) -> torch.Tensor:
    """Standard normal input of a golden case, used as it is."""
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(tuple(shape)).astype(np.float32))


def relative_error(found: torch.Tensor, expected: np.ndarray) -> float:
    """‖found - expected‖ / ‖expected‖ in double precision."""
    found_array = found.detach().numpy().astype(np.float64)
    return float(np.linalg.norm(found_array - expected) / np.linalg.norm(expected))
