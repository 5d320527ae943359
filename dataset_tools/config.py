"""What experiment files say about data: the `dataset` section, with the settings of the synthesis, and the crops.

The commands that look at a dataset need the crops of the training stages. They read `crop_size_px` and its companions
alone: the stages that own those sections check everything else.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from fasterseg.base.experiment import Section
from fasterseg.base.yamlfile import read_yaml

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
MIN_IMAGE_HEIGHT_PX = 64


class SynthesizeConfig(Section):
    """The `dataset.synthesize` section: what decides every byte of a synthetic dataset.

    Attributes:
        seed: Seed of all scenes.
        image_size: (height, width) in pixels.
        train_images: Images of the training split.
        val_images: Images of the validation split.
        test_images: Images of the test split.
        cities: Names that the images are divided among, as Cityscapes' folders are.
    """

    seed: int = Field(default=0, ge=0)
    image_size: tuple[int, int] = (128, 256)
    train_images: int = Field(default=400, ge=1)
    val_images: int = Field(default=100, ge=1)
    test_images: int = Field(default=0, ge=0)
    cities: tuple[str, ...] = Field(default=("northport", "eastvale", "oldmill"), min_length=1)

    def model_post_init(self, _context: object) -> None:
        """Checks what the types cannot say."""
        height, width = self.image_size
        if height < MIN_IMAGE_HEIGHT_PX or width < height:
            raise ValueError(
                f"image_size {height}x{width} (height x width): expected a height of {MIN_IMAGE_HEIGHT_PX} or more and "
                "a width of at least the height, for example 128x256"
            )
        wrong = [city for city in self.cities if not city.isalnum()]
        if wrong or len(set(self.cities)) < len(self.cities):
            raise ValueError(
                f"cities {list(self.cities)}: expected different names of letters and digits only, because the file "
                "names are divided at '_'"
            )

    def count(self, split: Split) -> int:
        """Images of a split."""
        return {"train": self.train_images, "val": self.val_images, "test": self.test_images}[split]


class DatasetConfig(Section):
    """The `dataset` section: where the data is and how it is read.

    Attributes:
        root: Dataset folder, with a dataset.yaml.
        train_split: Split that networks learn from; several joined by "+", e.g. "train+val".
        validation_split: Split that chooses the best checkpoint.
        test_split: Split that is only evaluated or predicted.
        num_workers: Processes that read; 0 reads in the training process.
        synthesize: Settings to make the dataset with when it does not exist; None for data of one's own.
    """

    root: Path
    train_split: str = Field(default="train", min_length=1)
    validation_split: str = Field(default="val", min_length=1)
    test_split: str = Field(default="test", min_length=1)
    num_workers: int = Field(default=2, ge=0)
    synthesize: SynthesizeConfig | None = None


class CropConfig(Section):
    """Which crops a training stage sees.

    Attributes:
        iterations_per_epoch: Steps of an epoch; null for one pass over the images.
        batch_size: Images per step and process.
        crop_size_px: (height, width) of the training crops; both divisible by 32.
        image_scale: Factor of all images, in training and validation, before anything else.
        scales: Random factors on top of it, in training.
    """

    iterations_per_epoch: Annotated[int, Field(ge=1)] | None = None
    batch_size: Annotated[int, Field(ge=1)]
    crop_size_px: tuple[int, int]
    image_scale: Annotated[float, Field(gt=0)] = 1.0
    scales: tuple[Annotated[float, Field(gt=0)], ...] = (0.75, 1.0, 1.25)

    @model_validator(mode="after")
    def _crop_fits_the_strides(self) -> Self:
        check_crop_size(self.crop_size_px)
        return self


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
    content = read_yaml(path)
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
        ValueError: The experiment file sets no crop.
    """
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
