"""A hash that near-duplicates share: whether a picture gets brighter to the right and downwards, in an 8x8 grid.

The difference hash in both directions, 128 bits. Copies that were scaled, compressed again or brightened differ in few
bits; frames of another scene in about half of them.

Source: N. Krawetz, "Kind of like that", 2013 (the horizontal half).
"""

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

HASH_BITS = 128
DEFAULT_DISTANCE = 8
_GRID = 8
# A picture whose brightness hardly varies has a hash of noise.
_MIN_CONTRAST = 8
_ROWS_PER_BLOCK = 64


def difference_hash(image: NDArray[np.uint8]) -> bytes | None:
    """Hashes a picture.

    Args:
        image: RGB, shape (H, W, 3).

    Returns:
        16 bytes, or None where the picture is too even to have a hash.
    """
    # Shrunk before it is made grey: a quarter of the work, the same grid.
    small = cv2.resize(image, (_GRID + 1, _GRID + 1), interpolation=cv2.INTER_AREA)
    gray = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.int16)
    if int(gray.max()) - int(gray.min()) < _MIN_CONTRAST:
        return None
    rightwards = gray[:_GRID, 1:] > gray[:_GRID, :-1]
    downwards = gray[1:, :_GRID] > gray[:-1, :_GRID]
    return np.packbits(np.concatenate([rightwards.ravel(), downwards.ravel()])).tobytes()


def nearest_hashes(hashes: list[bytes], others: list[bytes]) -> Iterator[tuple[int, int]]:
    """Finds for each hash the nearest of the others.

    Compares in blocks, so that memory grows with the number of hashes and not with that of pairs.

    Args:
        hashes: Hashes of 16 bytes.
        others: At least one.

    Yields:
        Position of the nearest other hash (the first of equals), and the number of bits that differ.
    """
    table = _as_words(others)
    queries = _as_words(hashes)
    for start in range(0, len(hashes), _ROWS_PER_BLOCK):
        block = queries[start : start + _ROWS_PER_BLOCK]
        distances = sum(
            np.bitwise_count(block[:, word, None] ^ table[None, :, word]).astype(np.uint8)
            for word in range(HASH_BITS // 64)
        )
        nearest = np.argmin(distances, axis=1)
        for row, position in enumerate(nearest):
            yield int(position), int(np.asarray(distances)[row, position])


def _as_words(hashes: list[bytes]) -> NDArray[np.uint64]:
    """Hashes as an array of 64-bit words, shape (N, 2)."""
    return np.frombuffer(b"".join(hashes), np.uint64).reshape(len(hashes), HASH_BITS // 64)
