"""What the converter tests share: tiny images, and a conversion whose masks are read back."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataset_tools.convert.output import OutputOptions, write_dataset
from dataset_tools.convert.source import SourceDataset
from dataset_tools.description import load_description
from dataset_tools.masks import read_mask

SIZE = (4, 6)

Converted = dict[str, dict[str, list[list[int]] | None]]


@pytest.fixture
def picture() -> Callable[..., Path]:
    """Writes an image of one colour, 4x6 (height x width) unless told otherwise."""

    def write(path: Path, size: tuple[int, int] = SIZE) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((*size, 3), 90, np.uint8)).save(path)
        return path

    return write


@pytest.fixture
def grey() -> Callable[..., Path]:
    """Writes a mask of ids as 8-bit grey PNG, or as a palette PNG when colours are given."""

    def write(path: Path, rows: list[list[int]], palette: list[tuple[int, int, int]] | None = None) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(np.array(rows, np.uint8))
        if palette is not None:
            image.putpalette([channel for color in palette for channel in color])
        image.save(path)
        return path

    return write


@pytest.fixture
def colors() -> Callable[..., Path]:
    """Writes a mask of RGB colours."""

    def write(path: Path, rows: list[list[tuple[int, int, int]]]) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.array(rows, np.uint8)).save(path)
        return path

    return write


@pytest.fixture
def convert(tmp_path: Path) -> Callable[[SourceDataset], Converted]:
    """Converts a source and returns the masks of each split by name; None where an image has none."""

    def run(dataset: SourceDataset) -> Converted:
        out = tmp_path / "converted"
        write_dataset(dataset, out, OutputOptions(progress=False))
        masks: Converted = {}
        for split, samples in load_description(out).splits.items():
            names = masks.setdefault(split, {})
            for sample in samples:
                assert sample.image.is_file()
                name = sample.image.relative_to(out / "images" / split).with_suffix("").as_posix()
                names[name] = None if sample.mask is None else read_mask(sample.mask).tolist()
        return masks

    return run
