"""The teacher's logits in a student's training: computed without gradients, and kept on disk where crops repeat.

Crops repeat when nothing about them is random but the mirror: one scale, and images of the crop's size. Then a teacher
sees each image twice, as it is and mirrored, and every epoch after the first reads what it said. Logits are found by
the content of the crop, so that they can never be those of another one.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from PIL import Image

from dataset_tools.samples import Sample
from dataset_tools.transforms import scaled_size
from fasterseg.base.files import replacing
from fasterseg.engine.devices import use_channels_last
from fasterseg.networks import Network
from train.config import TrainConfig

CACHE_FOLDER = "teacher_logits"


class TeacherLogits:
    """What a teacher says of images.

    Args:
        teacher: The trained network; it is moved to the device, frozen and put into evaluation mode.
        fabric: Device and precision.
        cache: Folder of this teacher's logits in half precision, a file for each image; None for no cache. With one,
            logits are those of half precision from the first time on, so that a run repeats whatever is cached.
    """

    def __init__(self, teacher: Network, fabric: Fabric, *, cache: Path | None = None) -> None:
        self._teacher, self._fabric, self._cache = teacher, fabric, cache
        teacher.to(fabric.device).requires_grad_(False).eval()
        use_channels_last(teacher)

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """The logits (N, C, h, w) of normalised images (N, 3, H, W), without gradients.

        Raises:
            ValueError: A logit is not finite in half precision, or a cached file is damaged.
        """
        if self._cache is None:
            return self._compute(image)
        return torch.cat([self._recall(one, self._cache) for one in image.unsqueeze(1)])

    def _compute(self, image: torch.Tensor) -> torch.Tensor:
        with torch.no_grad(), self._fabric.autocast():
            logits: torch.Tensor = self._teacher(image).main
        return logits

    def _recall(self, image: torch.Tensor, folder: Path) -> torch.Tensor:
        """The logits of one image from its file, which is written first where there is none."""
        content = image.cpu().contiguous().numpy().tobytes()
        path = folder / f"{hashlib.blake2b(content, digest_size=16).hexdigest()}.npy"
        if path.is_file():
            try:
                stored = np.load(path)
            except (ValueError, EOFError) as error:
                raise ValueError(f"{path} is damaged ({error}); remove it, it will be written again") from error
        else:
            with np.errstate(over="ignore"):  # told by the check below
                stored = self._compute(image).float().cpu().numpy().astype(np.float16)
            if not np.isfinite(stored).all():
                raise ValueError(
                    "the teacher's logits are not finite in half precision, in which they are cached; set "
                    "student.cache_teacher_logits=false, or check the teacher"
                )
            with replacing(path) as temporary, temporary.open("wb") as file:
                np.save(file, stored)
        return torch.from_numpy(stored.astype(np.float32)).to(image.device)


def check_crops_repeat(samples: Iterable[Sample], config: TrainConfig) -> None:
    """Makes sure that a cache of logits can be of use.

    Args:
        samples: The training images; of each the header is read.
        config: How they are cropped.

    Raises:
        ValueError: The crops are random, so that no epoch would see what another one has cached.
    """
    off = "or set student.cache_teacher_logits=false"
    if len(set(config.scales)) > 1:
        raise ValueError(
            f"student.cache_teacher_logits is true, but student.scales {list(config.scales)} makes every crop another "
            f"one, and nothing would ever be read again; use one scale, {off}"
        )
    crop = config.crop_size_px
    for sample in samples:
        with Image.open(sample.image) as picture:
            size = scaled_size((picture.height, picture.width), config.image_scale * config.scales[0])
        if size != crop:
            raise ValueError(
                f"student.cache_teacher_logits is true, but {sample.image} is {size[0]}x{size[1]} after scaling and "
                f"crops are {crop[0]}x{crop[1]}, so that their place is random; set student.crop_size_px to the "
                f"images' size, {off}"
            )
