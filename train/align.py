"""`train align`: whether two networks, or a network and recorded arrays, compute the same on one fixed batch.

It compares the logits of all heads, the loss, the metric, the gradient of every parameter, and the running statistics
after the forward pass of a training step, each by its relative difference.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dataset_tools.description import DatasetDescription
from dataset_tools.loader import build_eval_loader
from fasterseg.base.devices import ComparingPrecision
from fasterseg.base.files import replacing, write_text
from fasterseg.engine.checkpoint import NetworkCheckpoint
from fasterseg.engine.losses import segmentation_losses
from fasterseg.engine.metrics import SegmentationMetrics
from fasterseg.networks import Size, resize_bilinear
from fasterseg.runtime.load import load_checkpoint
from train.config import BaselineConfig

ARRAYS_SUFFIX = ".npz"
Arrays = Mapping[str, NDArray[np.generic]]
_BATCH_SIZE = 2
_BLOCK_PX = 16
_IGNORED_PART = 0.1
_AUXILIARY_WEIGHT = BaselineConfig().auxiliary_weight


@dataclass(frozen=True)
class AlignBatch:
    """The batch that both networks compute.

    Attributes:
        image: (N, 3, H, W) float32, normalised.
        label: (N, H, W) int64 train ids and the ignore index.
    """

    image: torch.Tensor
    label: torch.Tensor


@dataclass(frozen=True)
class Difference:
    """The difference of one quantity between the two sides.

    Attributes:
        name: Name of the quantity, such as `logits/main` or `gradient/stem.0.conv.weight`.
        relative: ‖a - b‖ / ‖b‖; infinite if a side is missing, of another shape or not finite.
        note: A remark, such as that the shapes differ.
    """

    name: str
    relative: float
    note: str = ""


@dataclass(frozen=True)
class Tolerances:
    """The largest relative differences that count as equal.

    Attributes:
        forward: For logits, loss, metric and running statistics.
        gradient: For gradients, which accumulate the rounding of a whole backward pass.

    Raises:
        ValueError: A tolerance is not above 0.
    """

    forward: float = 1e-4
    gradient: float = 1e-3

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"the {name} tolerance is {value}, expected a relative difference above 0")

    def of(self, name: str) -> float:
        """The tolerance of a quantity."""
        return self.gradient if name.startswith("gradient/") else self.forward


@dataclass(frozen=True)
class AlignReport:
    """The comparison of all quantities.

    Attributes:
        first: The network that is compared.
        second: What it is compared with.
        differences: All differences, in the order of computation.
        tolerances: What counts as equal.
    """

    first: str
    second: str
    differences: tuple[Difference, ...]
    tolerances: Tolerances

    @property
    def failures(self) -> tuple[Difference, ...]:
        """The differences beyond their tolerance."""
        return tuple(each for each in self.differences if not each.relative <= self.tolerances.of(each.name))

    def write(self, path: Path) -> None:
        """Writes the report as JSON."""
        data = {
            "first": self.first,
            "second": self.second,
            "aligned": not self.failures,
            "tolerances": asdict(self.tolerances),
            "differences": [
                {**asdict(each), "relative": each.relative if np.isfinite(each.relative) else None}
                for each in self.differences
            ],
        }
        write_text(path, json.dumps(data, indent=1, allow_nan=False) + "\n")


def dataset_batch(description: DatasetDescription, *, split: str, image_scale: float) -> AlignBatch:
    """The first images of a split with their labels, ignored pixels included."""
    images, labels = [], []
    for index, batch in enumerate(build_eval_loader(description, split=split, image_scale=image_scale)):
        if index == _BATCH_SIZE:
            break
        images.append(batch.image)
        labels.append(batch.label)
    height = min(int(image.shape[2]) for image in images)
    width = min(int(image.shape[3]) for image in images)
    return AlignBatch(
        torch.cat([image[:, :, :height, :width] for image in images]),
        torch.cat([label[:, :height, :width] for label in labels]),
    )


def random_batch(checkpoint: NetworkCheckpoint, size: Size) -> AlignBatch:
    """A batch drawn with a fixed seed: noise, blocks of all classes, and ignored blocks among them."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(_BATCH_SIZE, 3, *size, generator=generator)
    blocks = (_BATCH_SIZE, 1, -(-size[0] // _BLOCK_PX), -(-size[1] // _BLOCK_PX))
    ids = torch.randint(checkpoint.dataset.num_classes, blocks, generator=generator).float()
    ids[torch.rand(blocks, generator=generator) < _IGNORED_PART] = float(checkpoint.dataset.ignore_index)
    label = nn.functional.interpolate(ids, scale_factor=_BLOCK_PX, mode="nearest")[:, 0, : size[0], : size[1]]
    return AlignBatch(image, label.long())


def compute_arrays(
    checkpoint: NetworkCheckpoint, batch: AlignBatch, *, precision: ComparingPrecision
) -> dict[str, np.ndarray]:
    """All compared quantities by name, from a forward and backward pass in training mode without dropout."""
    dtype = torch.float64 if precision == "fp64" else torch.float32
    network = checkpoint.build().to(dtype).train()
    for module in network.modules():
        if isinstance(module, nn.Dropout | nn.Dropout2d):
            module.eval()
    ignore_index = checkpoint.dataset.ignore_index
    criterion = nn.CrossEntropyLoss(ignore_index=ignore_index)
    logits = network(batch.image.to(dtype))
    loss, heads = segmentation_losses(criterion, logits, batch.label, auxiliary_weight=_AUXILIARY_WEIGHT)
    loss.backward()  # type: ignore[no-untyped-call]
    metrics = SegmentationMetrics(checkpoint.dataset.class_names, ignore_index=ignore_index, device="cpu")
    size = (int(batch.label.shape[1]), int(batch.label.shape[2]))
    metrics.update(resize_bilinear(logits.main.detach(), size).argmax(dim=1), batch.label)
    named: dict[str, torch.Tensor] = {"logits/main": logits.main}
    named |= {f"logits/auxiliary_{index}": head for index, head in enumerate(logits.auxiliary)}
    named |= {"loss/total": loss, **{f"loss/{name}": value for name, value in heads.items()}}
    named["metric/miou"] = torch.tensor(metrics.compute().miou)
    for name, parameter in network.named_parameters():
        named[f"gradient/{name}"] = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
    named |= {f"statistics/{name}": value for name, value in network.named_buffers() if value.is_floating_point()}
    return {name: value.detach().numpy() for name, value in named.items()}


def record_arrays(path: Path, batch: AlignBatch, arrays: Arrays) -> None:
    """Writes the batch and a network's arrays, for a comparison elsewhere or later."""
    stored: dict[str, Any] = {"batch/image": batch.image.numpy(), "batch/label": batch.label.numpy(), **arrays}
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **stored)


def read_arrays(path: Path) -> tuple[AlignBatch, dict[str, np.ndarray]]:
    """The batch and the arrays that `record_arrays` wrote, or another program in the same form.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no `.npz` of plain arrays, or holds no batch.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"no recorded arrays at {path}; `python -m train align CHECKPOINT --record FILE` writes some"
        )
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path} cannot be read as an .npz file of plain arrays: {error}") from error
    for name, dimensions in (("batch/image", 4), ("batch/label", 3)):
        if name not in arrays or arrays[name].ndim != dimensions:
            raise ValueError(f"{path} holds no {name} of {dimensions} dimensions; it needs the batch to repeat")
    image, label = arrays.pop("batch/image"), arrays.pop("batch/label")
    return AlignBatch(torch.from_numpy(image).float(), torch.from_numpy(label).long()), arrays


def compare_arrays(found: Arrays, expected: Arrays) -> tuple[Difference, ...]:
    """The difference of every quantity that either side has."""
    names = [*found, *(name for name in expected if name not in found)]
    return tuple(_difference(name, found.get(name), expected.get(name)) for name in names)


def _difference(name: str, found: NDArray[np.generic] | None, expected: NDArray[np.generic] | None) -> Difference:
    if found is None or expected is None:
        return Difference(name, float("inf"), f"only in the {'second' if found is None else 'first'}")
    if found.shape != expected.shape:
        return Difference(name, float("inf"), f"shape {found.shape} against {expected.shape}")
    a, b = found.astype(np.float64), expected.astype(np.float64)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return Difference(name, 0.0 if np.array_equal(a, b, equal_nan=True) else float("inf"), "not finite")
    scale = float(np.linalg.norm(b))
    apart = float(np.linalg.norm(a - b))
    if scale == 0:
        return Difference(name, 0.0 if apart == 0 else float("inf"), "the second is zero throughout")
    return Difference(name, apart / scale)


def align(
    first: Path, second: Path, *, batch: AlignBatch | None, precision: ComparingPrecision, tolerances: Tolerances
) -> AlignReport:
    """Compares a checkpoint with another one, or with recorded arrays, on the same batch.

    Args:
        first: A checkpoint.
        second: A checkpoint, or a `.npz` file of recorded arrays.
        batch: The batch for both; None for the recorded batch, or else a random one.
        precision: Number format of both computations.
        tolerances: What counts as equal.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is damaged, or the networks are of different classes.
    """
    checkpoint = load_checkpoint(first)
    if second.suffix.lower() == ARRAYS_SUFFIX:
        batch, expected = read_arrays(second)
    else:
        other = load_checkpoint(second)
        if other.dataset.num_classes != checkpoint.dataset.num_classes:
            raise ValueError(
                f"{first} has {checkpoint.dataset.num_classes} classes, {second} has {other.dataset.num_classes}; "
                "they cannot see the same labels"
            )
        batch = batch or random_batch(checkpoint, checkpoint.input_size)
        expected = compute_arrays(other, batch, precision=precision)
    _check_labels(batch, checkpoint, second)
    found = compute_arrays(checkpoint, batch, precision=precision)
    return AlignReport(str(first), str(second), compare_arrays(found, expected), tolerances)


def _check_labels(batch: AlignBatch, checkpoint: NetworkCheckpoint, source: Path) -> None:
    """Refuses labels that the network has no classes for."""
    facts = checkpoint.dataset
    ids = sorted(set(np.unique(batch.label.numpy()).tolist()) - {facts.ignore_index})
    if not ids or ids[0] < 0 or ids[-1] >= facts.num_classes:
        raise ValueError(
            f"the batch of {source} has the labels {ids}, expected train ids from 0 to {facts.num_classes - 1} and the "
            f"ignore index {facts.ignore_index}"
        )


def worst(differences: Sequence[Difference], count: int) -> list[Difference]:
    """The largest differences, the largest first."""
    return sorted(differences, key=lambda each: -each.relative)[:count]
