"""The crops that images have to hold: given on the command line, or read from an experiment file.

An experiment file is only looked through for `crop_size_px`: the stages that own its sections check everything else.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True)
class Crop:
    """A crop that a training stage takes.

    Attributes:
        source: Where it is set, for messages.
        size_px: (height, width).
        image_scale: Factor of the images before the crop.
        scales: Random factors on top of it; empty where none are set.
    """

    source: str
    size_px: tuple[int, int]
    image_scale: float = 1.0
    scales: tuple[float, ...] = ()


def check_crop_size(crop_size_px: tuple[int, int], *, field: str = "crop_size_px", divisor: int = 32) -> None:
    """Refuses a crop that the networks' strides do not divide.

    Args:
        crop_size_px: (height, width).
        field: Name of the setting, for the message.
        divisor: The largest output stride.

    Raises:
        ValueError: Names the side, its value and the nearest sizes that fit.
    """
    problems = []
    for side, size in zip(("height", "width"), crop_size_px, strict=True):
        if size < divisor:
            problems.append(f"{field} {side} {size} is less than {divisor}; use {divisor} or more")
        elif size % divisor:
            below = size // divisor * divisor
            problems.append(f"{field} {side} {size} is not divisible by {divisor}; use {below} or {below + divisor}")
    if problems:
        raise ValueError("\n".join(problems))


def read_crops(path: Path) -> tuple[Crop, ...]:
    """Finds the crops of an experiment file.

    Args:
        path: The YAML file.

    Returns:
        One per stage that sets `crop_size_px`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not YAML, sets no crop, or a crop is malformed.
    """
    if not path.is_file():
        raise FileNotFoundError(f"experiment file not found: {path}")
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from error
    sections = content.items() if isinstance(content, dict) else ()
    crops = tuple(
        _read_crop(f"{path}: {name}", section)
        for name, section in sections
        if isinstance(section, dict) and "crop_size_px" in section
    )
    if not crops:
        raise ValueError(f"{path} sets no crop_size_px in any stage; give the crop with --crop HEIGHTxWIDTH")
    return crops


def chosen_crops(crop: tuple[int, int] | None, config: Path | None) -> tuple[Crop, ...]:
    """The crops of the options `--crop` and `--config`.

    Raises:
        FileNotFoundError: The experiment file does not exist.
        ValueError: A side is not positive, or the experiment file sets no crop.
    """
    if crop is not None and min(crop) < 1:
        raise ValueError(f"--crop {crop[0]} {crop[1]}: expected a height and a width of 1 pixel or more")
    given = () if crop is None else (Crop("--crop", crop),)
    return given + (() if config is None else read_crops(config))


def _read_crop(source: str, section: dict[str, Any]) -> Crop:
    """Reads the crop of one stage."""
    size, image_scale, scales = section["crop_size_px"], section.get("image_scale", 1.0), section.get("scales", ())
    numbers = isinstance(size, list) and len(size) == 2 and all(isinstance(side, int) and side > 0 for side in size)
    if not numbers:
        raise ValueError(f"{source}.crop_size_px is {size!r}, expected [height, width] in pixels")
    if not isinstance(image_scale, int | float) or image_scale <= 0:
        raise ValueError(f"{source}.image_scale is {image_scale!r}, expected a number above 0")
    if not isinstance(scales, list | tuple) or not all(isinstance(scale, int | float) for scale in scales):
        raise ValueError(f"{source}.scales is {scales!r}, expected a list of numbers")
    return Crop(source, (size[0], size[1]), float(image_scale), tuple(float(scale) for scale in scales))
