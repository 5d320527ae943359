"""Settings of the synthesis: the `dataset.synthesize` section of an experiment file."""

from typing import Literal

from pydantic import Field

from fasterseg.base.experiment import Section

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
MIN_IMAGE_HEIGHT_PX = 64


class SynthesizeConfig(Section):
    """What decides every byte of a synthetic dataset.

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
