"""A student's teacher: its network, the weight of its loss, and its logits.

Logits are computed without gradients, and can be cached on disk if crops repeat. Crops repeat if only mirroring is
random: one scale, and images of the crop's size. Then the teacher computes each image at most twice, as it is and
mirrored, and later epochs read the cached logits. A cached file is named by the hash of its crop, so that it cannot be
mistaken for another crop's.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric

from dataset_tools.experiment_data import ExperimentData
from dataset_tools.samples import Sample
from dataset_tools.transforms import scaled_size
from fasterseg.base.files import file_digest, replacing
from fasterseg.base.images import open_image
from fasterseg.engine.checkpoint import load_network
from fasterseg.engine.devices import use_channels_last
from fasterseg.networks import Network
from train.config import StudentConfig, TrainConfig
from train.data import training_split

CACHE_FOLDER = "teacher_logits"


@dataclass(frozen=True)
class Distillation:
    """A teacher and the weight of its loss.

    Attributes:
        teacher: The trained network, in evaluation mode.
        weight: Weight of KL(teacher ‖ student) in the loss.
        cache: Folder for the teacher's logits; None to compute them in every step.
        origin: Hash of the teacher's file.
    """

    teacher: Network
    weight: float
    cache: Path | None = None
    origin: str = ""


def load_distillation(path: Path, data: ExperimentData, config: StudentConfig, *, out: Path) -> Distillation:
    """The teacher of a student stage.

    Args:
        path: The teacher's `best.pt`.
        data: The student's dataset.
        config: The student's section.
        out: The student's run folder, for the cache.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The teacher is of other classes, or logits of random crops are to be cached.
    """
    description = data.description
    teacher = load_network(path, num_classes=description.num_classes)
    if teacher.dataset.class_names != description.class_names:
        raise ValueError(
            f"{path} was trained for the classes {', '.join(teacher.dataset.class_names)}; the dataset has "
            f"{', '.join(description.class_names)}: train a teacher on this dataset"
        )
    cache = None
    if config.cache_teacher_logits:
        check_crops_repeat(description.samples(training_split(data.config, config)), config)
        cache = out / CACHE_FOLDER
    return Distillation(teacher.build(), config.distillation_weight, cache, file_digest(path))


class TeacherLogits:
    """The logits of a teacher, computed or from the cache.

    Args:
        teacher: The trained network; it is moved to the device, frozen and put into evaluation mode.
        fabric: Device and precision.
        cache: Folder of this teacher's logits in half precision, a file for each image; None for no cache. With a
            cache, logits are always rounded to half precision, so that results do not depend on what is cached.
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
        return torch.cat([self._cached_logits(single, self._cache) for single in image.unsqueeze(1)])

    def _compute(self, image: torch.Tensor) -> torch.Tensor:
        with torch.no_grad(), self._fabric.autocast():
            logits: torch.Tensor = self._teacher(image).main
        return logits

    def _cached_logits(self, image: torch.Tensor, folder: Path) -> torch.Tensor:
        """The logits (1, C, h, w) of one image (1, 3, H, W) from its file, which is written first when missing."""
        content = image.cpu().contiguous().numpy().tobytes()
        path = folder / f"{hashlib.blake2b(content, digest_size=16).hexdigest()}.npy"
        if path.is_file():
            try:
                stored = np.load(path)
            except (ValueError, EOFError) as error:
                raise ValueError(f"{path} is damaged ({error}); remove it, it will be written again") from error
        else:
            with np.errstate(over="ignore"):  # the check below reports it
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
    """Checks that crops repeat, so that cached logits are used again.

    Args:
        samples: The training images; only their headers are read.
        config: How they are cropped.

    Raises:
        ValueError: Crops are random, so that cached logits would never be used again.
    """
    remedy = "or set student.cache_teacher_logits=false"
    if len(set(config.scales)) > 1:
        raise ValueError(
            f"student.cache_teacher_logits is true, but student.scales {list(config.scales)} makes every crop another "
            f"one, and nothing would ever be read again; use one scale, {remedy}"
        )
    crop = config.crop_size_px
    for sample in samples:
        with open_image(sample.image) as picture:
            size = scaled_size((picture.height, picture.width), config.image_scale * config.scales[0])
        if size != crop:
            raise ValueError(
                f"student.cache_teacher_logits is true, but {sample.image} is {size[0]}x{size[1]} after scaling and "
                f"crops are {crop[0]}x{crop[1]}, so that their place is random; set student.crop_size_px to the "
                f"images' size, {remedy}"
            )
