"""How well a classifier that sees one pixel's colour at a time does on a dataset.

Multinomial logistic regression on RGB, fitted plainly and with balanced classes: the figure that a dataset which needs
context must keep low. Prints the mean and the per-class IoU on the validation split, and records them as CSV.

    python -m dataset_tools synthesize data/synthetic
    python -m benchmarks.colour_baseline data/synthetic --csv benchmarks/colour_baseline_synthetic_128x256_seed0.csv

Any CPU, half a minute. Result: mean IoU 0.17 plain, 0.15 balanced (the synthetic dataset is meant to stay under 0.35).
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.options import benchmark_parser, write_rows
from dataset_tools.dataset import read_label
from dataset_tools.description import DatasetDescription, load_description
from fasterseg.base.images import read_image

FIELDS = ("dataset", "train_images", "val_images", "pixels", "balanced", "mean_iou", "iou_per_class")


def read_pixels(
    description: DatasetDescription, split: str, *, pixels_per_image: int | None, generator: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Collects colours and labels.

    Args:
        description: The dataset.
        split: Name of the split.
        pixels_per_image: Random pixels of each image; None for all.
        generator: Chooses them.

    Returns:
        Colours (P, 3) float32 in -1..1, and train ids (P,) int64; ignored pixels are left out.
    """
    colors: list[NDArray[np.uint8]] = []
    labels: list[NDArray[np.integer]] = []
    for sample in description.samples(split):
        image = read_image(sample.image, sample.origin)
        label = read_label(
            sample, image.shape[:2], num_classes=description.num_classes, ignore_index=description.ignore_index
        )
        flat_color, flat_label = image.reshape(-1, 3), label.reshape(-1)
        keep = np.flatnonzero(flat_label != description.ignore_index)
        if pixels_per_image is not None and len(keep) > pixels_per_image:
            keep = generator.choice(keep, pixels_per_image, replace=False)
        colors.append(flat_color[keep])
        labels.append(flat_label[keep])
    color = torch.from_numpy(np.concatenate(colors)).float() / 127.5 - 1
    return color, torch.from_numpy(np.concatenate(labels).astype(np.int64))


def fit(color: torch.Tensor, label: torch.Tensor, num_classes: int, *, balanced: bool) -> torch.nn.Linear:
    """Fits the regression to convergence with L-BFGS.

    Args:
        color: Colours, (P, 3).
        label: Train ids, (P,).
        num_classes: Number of classes.
        balanced: Weight the classes by the inverse of their frequency.

    Returns:
        The layer that gives the logits.
    """
    layer = torch.nn.Linear(3, num_classes)
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    counts = torch.bincount(label, minlength=num_classes).clamp(min=1)
    weight = len(label) / (num_classes * counts) if balanced else None
    optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(layer(color), label, weight=weight)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return layer


@torch.no_grad()
def iou_per_class(layer: torch.nn.Linear, color: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """IoU of each class over all pixels, (classes,)."""
    classes = layer.out_features
    predicted = torch.cat([layer(part).argmax(1) for part in torch.split(color, 1_000_000)])
    confusion = torch.bincount(label * classes + predicted, minlength=classes**2).view(classes, classes).double()
    hits = confusion.diagonal()
    return hits / (confusion.sum(0) + confusion.sum(1) - hits).clamp(min=1)


def measure(description: DatasetDescription, *, pixels_per_image: int) -> list[dict[str, str]]:
    """Fits on the training split and evaluates on the validation split, plainly and balanced.

    Args:
        description: The dataset.
        pixels_per_image: Random pixels of each training image; validation takes all.

    Returns:
        One row per fit, with the columns FIELDS.
    """
    generator = np.random.default_rng(0)
    color, label = read_pixels(description, "train", pixels_per_image=pixels_per_image, generator=generator)
    val_color, val_label = read_pixels(description, "val", pixels_per_image=None, generator=generator)
    rows = []
    for balanced in (False, True):
        iou = iou_per_class(fit(color, label, description.num_classes, balanced=balanced), val_color, val_label)
        pairs = zip(description.class_names, iou.tolist(), strict=True)
        values = (
            description.name,
            len(description.samples("train")),
            len(description.samples("val")),
            len(label),
            balanced,
            f"{iou.mean():.4f}",
            " ".join(f"{name.replace(' ', '-')}:{value:.3f}" for name, value in pairs),
        )
        rows.append(dict(zip(FIELDS, map(str, values), strict=True)))
    return rows


def main() -> None:
    """Measures one dataset, prints the result and writes it."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("root", type=Path, help="dataset folder")
    parser.add_argument("--pixels-per-image", type=int, default=1500)
    arguments = parser.parse_args()
    rows = measure(load_description(arguments.root), pixels_per_image=arguments.pixels_per_image)
    write_rows(arguments.csv, rows)
    for row in rows:
        print(f"balanced={row['balanced']}: mean IoU {row['mean_iou']} ({row['iou_per_class']})")


if __name__ == "__main__":
    main()
