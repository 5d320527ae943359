import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from fasterseg.base.images import (
    MOST_PIXELS_VARIABLE,
    TooLargeImageError,
    most_pixels,
    open_image,
    orientation_of,
    read_image,
)


def header(path: Path, size: tuple[int, int]) -> Path:
    """A PNG that promises (height, width) of grey pixels and holds none."""
    facts = struct.pack(">IIBBBBB", size[1], size[0], 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", facts) + chunk(b"IDAT", zlib.compress(b"\0" * 99)))
    return path


def chunk(kind: bytes, data: bytes) -> bytes:
    """A part of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize("size", [(13_500, 13_500), (14_000, 14_000), (30_000, 30_000), (100_000, 100_000)])
def test_an_image_that_is_too_large_is_refused_by_its_header(tmp_path: Path, size: tuple[int, int]) -> None:
    path = header(tmp_path / "a.png", size)
    said = rf"a\.png .*has {size[0]}x{size[1]} .*, more than 180,000,000; .*{MOST_PIXELS_VARIABLE}={size[0] * size[1]}"
    with pytest.raises(TooLargeImageError, match=said):
        read_image(path, "train.txt:3")
    with pytest.raises(TooLargeImageError, match="mask .*a.png has"), open_image(path, "mask"):
        pass


def test_the_limit_can_be_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (20, 10), 7).save(tmp_path / "a.png")
    monkeypatch.setenv(MOST_PIXELS_VARIABLE, "199")
    with pytest.raises(TooLargeImageError, match=r"10x20 \(height x width\) = 200 pixels, more than 199"):
        read_image(tmp_path / "a.png")
    monkeypatch.setenv(MOST_PIXELS_VARIABLE, "200_000_000")
    assert most_pixels() == 200_000_000
    assert read_image(tmp_path / "a.png").shape == (10, 20, 3)
    monkeypatch.setenv(MOST_PIXELS_VARIABLE, "many")
    with pytest.raises(ValueError, match="is 'many', expected a number of pixels"):
        read_image(tmp_path / "a.png")


def test_what_opencv_refuses_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MOST_PIXELS_VARIABLE, str(10**12))
    with pytest.raises(ValueError, match=r"image cannot be read: .*a\.png"):
        read_image(header(tmp_path / "a.png", (100_000, 100_000)))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tiff"])
def test_the_orientation_that_is_left_to_be_applied(tmp_path: Path, ending: str, orientation: int) -> None:
    pixels = np.zeros((16, 24, 3), np.uint8)
    pixels[:8, :8] = 255
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{ending}"
    image.save(path, exif=exif)
    with open_image(path) as opened:
        left, size = orientation_of(opened), (opened.height, opened.width)
    read = read_image(path)
    assert read.shape[:2] == size
    with Image.open(path) as opened:
        upright = np.asarray(ImageOps.exif_transpose(opened))
    # What is read differs from the upright picture just where an orientation is left.
    same = read.shape == upright.shape and bool((np.abs(read.astype(int) - upright) < 30).all())
    assert same == (left == 1)
    assert left == (1 if ending == "tiff" else orientation)
