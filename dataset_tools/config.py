"""The `dataset` section of an experiment file."""

from pathlib import Path

from pydantic import Field

from dataset_tools.synthesis.config import SynthesizeConfig
from fasterseg.base.experiment import Section


class DatasetConfig(Section):
    """Where the data is and how it is read.

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
