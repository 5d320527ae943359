import pytest
from pydantic import ValidationError

from dataset_tools.config import DatasetConfig


def test_reads_plain_values() -> None:
    config = DatasetConfig.model_validate({"root": "data/x", "synthesize": {"image_size": [128, 256], "seed": 3}})
    assert config.train_split == "train"
    assert config.synthesize is not None
    assert config.synthesize.image_size == (128, 256)
    assert DatasetConfig.model_validate(config.model_dump()) == config


@pytest.mark.parametrize("wrong", [{"rooot": "x"}, {"root": "x", "num_workers": -1}, {"root": "x", "crop": 3}])
def test_refuses(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        DatasetConfig.model_validate(wrong)


def test_frozen() -> None:
    with pytest.raises(ValidationError):
        DatasetConfig(root="x").root = "y"  # type: ignore[arg-type, assignment]
