"""Settings of what is read: the `dataset` section of an experiment file, and the crops of a training stage."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from dataset_tools.synthesis.config import SynthesizeConfig
from dataset_tools.transforms import check_crop_size
from fasterseg.base.experiment import Section


class DatasetConfig(BaseModel):
    """Where the data is and how it is read.

    Attributes:
        root: Dataset folder, with a dataset.yaml.
        train_split: Split that networks learn from; several joined by "+", e.g. "train+val".
        validation_split: Split that chooses the best checkpoint.
        test_split: Split that is only evaluated or predicted.
        num_workers: Processes that read; 0 reads in the training process.
        synthesize: Settings to make the dataset with when it does not exist; None for data of one's own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

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
    image_scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    scales: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = (0.75, 1.0, 1.25)

    @model_validator(mode="after")
    def _crop_fits_the_strides(self) -> Self:
        check_crop_size(self.crop_size_px)
        return self
