import pytest
from pydantic import ValidationError

from dataset_tools.synthesis.config import SPLITS, SynthesizeConfig


def test_counts() -> None:
    config = SynthesizeConfig(train_images=5, val_images=2, test_images=1)
    assert [config.count(split) for split in SPLITS] == [5, 2, 1]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"image_size": (32, 64)}, "image_size 32x64"),
        ({"image_size": (128, 64)}, "image_size 128x64"),
        ({"cities": ("new york",)}, "letters and digits"),
        ({"cities": ("a", "a")}, "different names"),
        ({"cities": ()}, "cities"),
        ({"train_images": 0}, "train_images"),
        ({"sead": 1}, "sead"),
    ],
)
def test_refuses(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SynthesizeConfig.model_validate(wrong)
