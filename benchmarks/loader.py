"""Images per second of the training loader: PNG, JPEG and packed data, against a plain PyTorch loader in the same run.

Crops of 512x1024 out of 1024x2048 images, random scale and flip, batches of 4, 2 workers. The plain loader is what one
writes first: Pillow decodes image and mask, Pillow scales both whole, then crop, flip and normalisation with PyTorch
operations, PyTorch's own collation. The images are the toolkit's synthetic streets at that size (textured and noisy, as
photographs are; a PNG of one takes 3.8 MB, a JPEG of quality 95 0.7 MB), stored as Pillow stores PNG and JPEG.

    python -m benchmarks.loader data/loader_benchmark --csv benchmarks/loader_1024x2048_crop512x1024_cpu2.csv

Two cores of an Intel Xeon, images/s: plain PNG 25, plain JPEG 35, PNG 36, JPEG 64, packed 174 (106 to 198), which is
6.9 times plain PNG and 4.9 times our own PNG.

The loaders take turns for several rounds, so that a slow minute of the machine falls on all of them. Files lie in the
page cache: what is measured is decoding and augmentation, not the disk. Making the images takes a minute or two once.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from benchmarks.options import benchmark_parser, write_rows
from dataset_tools.config import SynthesizeConfig
from dataset_tools.dataset import LabeledImage
from dataset_tools.description import DatasetDescription, load_description, save_description
from dataset_tools.loader import build_train_loader
from dataset_tools.pack import plan_pack, write_pack
from dataset_tools.samples import Sample
from dataset_tools.synthesis.writer import synthesize
from dataset_tools.transforms import DEFAULT_SCALES
from fasterseg.base.files import replacing
from fasterseg.base.machine import available_cores, processor_name

FIELDS = (
    "loader", "images_per_s", "slowest_round", "fastest_round", "ratio_to_plain_png", "rounds", "images_per_round",
    "batch", "workers", "crop", "image_size", "images", "cpu", "cpus", "python", "torch", "opencv",
)  # fmt: skip
JPEG_QUALITY = 95


class PlainDataset(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Decodes, scales, crops, flips and normalises one sample after another, plainly.

    Args:
        description: The dataset; its training split is read.
        crop_size_px: (height, width).
        draws: Length of an epoch.
    """

    def __init__(self, description: DatasetDescription, crop_size_px: tuple[int, int], draws: int) -> None:
        self.samples = description.samples("train")
        self.crop_size_px = crop_size_px
        self.draws = draws
        self.mean = torch.tensor(description.mean).view(3, 1, 1)
        self.std = torch.tensor(description.std).view(3, 1, 1)

    def __len__(self) -> int:
        """Number of draws."""
        return self.draws

    def __getitem__(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        """One augmented pair: (3, h, w) float32 and (h, w) int64."""
        generator = np.random.default_rng(number)
        sample = self.samples[int(generator.integers(len(self.samples)))]
        assert sample.mask is not None, "the benchmark's images have masks"
        image, mask = Image.open(sample.image).convert("RGB"), Image.open(sample.mask).convert("L")
        scale = DEFAULT_SCALES[int(generator.integers(len(DEFAULT_SCALES)))]
        size = (round(image.width * scale), round(image.height * scale))
        image, mask = image.resize(size, Image.Resampling.BILINEAR), mask.resize(size, Image.Resampling.NEAREST)
        height, width = self.crop_size_px
        top = int(generator.integers(size[1] - height + 1))
        left = int(generator.integers(size[0] - width + 1))
        box = (left, top, left + width, top + height)
        pixels = torch.from_numpy(np.array(image.crop(box))).permute(2, 0, 1).float() / 255
        label = torch.from_numpy(np.array(mask.crop(box))).long()
        if generator.random() < 0.5:
            pixels, label = pixels.flip(2), label.flip(1)
        return (pixels - self.mean) / self.std, label


def prepare(root: Path, *, images: int, image_size: tuple[int, int]) -> dict[str, DatasetDescription]:
    """Makes the same images as PNG, JPEG and packed PNG; what exists is kept.

    Args:
        root: Folder of the datasets.
        images: Number of images.
        image_size: (height, width).

    Returns:
        The datasets, by how their images are stored.
    """
    config = SynthesizeConfig(image_size=image_size, train_images=images, val_images=1)
    synthesize(root / "synthetic", config, workers=available_cores())
    source = load_description(root / "synthetic")
    made = {}
    for name, ending, options in (
        ("png", ".png", {}),
        ("jpeg", ".jpg", {"quality": JPEG_QUALITY}),
        ("packed", ".png", {}),
    ):
        folder = root / name
        samples = []
        for sample in source.samples("train"):
            path = folder / "images" / f"{sample.image.stem}{ending}"
            if not path.exists():
                with replacing(path) as temporary:
                    Image.open(sample.image).save(temporary, "JPEG" if ending == ".jpg" else "PNG", **options)
            samples.append(Sample(path, sample.mask))
        description = DatasetDescription(
            folder, name, source.class_names, source.colors, {"train": tuple(samples)}, source.label_ids
        )
        save_description(description)
        made[name] = load_description(folder)
    plan = plan_pack(made["packed"], "train")
    if not plan.is_current:
        write_pack(made["packed"], plan)
    return made


def open_loaders(
    datasets: dict[str, DatasetDescription], *, crop_size_px: tuple[int, int], batch: int, workers: int, batches: int
) -> dict[str, Callable[[int], Iterable[object]]]:
    """A function per loader that gives the batches of a round."""

    def plain(description: DatasetDescription) -> Callable[[int], Iterable[object]]:
        loader = DataLoader(
            PlainDataset(description, crop_size_px, batches * batch),
            batch_size=batch,
            num_workers=workers,
            persistent_workers=workers > 0,
        )
        return lambda _round: loader

    def ours(description: DatasetDescription) -> Callable[[int], Iterable[LabeledImage]]:
        loader = build_train_loader(
            description,
            split="train",
            crop_size_px=crop_size_px,
            batch_size=batch,
            iterations_per_epoch=batches,
            num_workers=workers,
        )

        def epoch(number: int) -> Iterable[LabeledImage]:
            loader.set_epoch(number)
            return loader

        return epoch

    return {
        "plain png": plain(datasets["png"]),
        "plain jpeg": plain(datasets["jpeg"]),
        **{name: ours(description) for name, description in datasets.items()},
    }


def time_round(batches: Iterable[object], *, batch: int, warmup: int) -> float:
    """Images per second of one round, after the first batches, when the workers' queues are full."""
    count, start = 0, 0.0
    for number, _ in enumerate(batches):
        if number == warmup:
            start = time.perf_counter()
        elif number > warmup:
            count += batch
    return count / (time.perf_counter() - start)


def measure(arguments: argparse.Namespace) -> list[dict[str, str]]:
    """Times all loaders in turns.

    Returns:
        One row per loader, with the columns FIELDS.
    """
    image_size, crop = (1024, 2048), (512, 1024)
    datasets = prepare(arguments.root.resolve(), images=arguments.images, image_size=image_size)
    loaders = open_loaders(
        datasets, crop_size_px=crop, batch=arguments.batch, workers=arguments.workers, batches=arguments.batches
    )
    rates: dict[str, list[float]] = {name: [] for name in loaders}
    for number in range(arguments.rounds + 1):
        for name, round_of in loaders.items():
            images_per_s = time_round(round_of(number), batch=arguments.batch, warmup=arguments.workers)
            # The first round starts the workers and fills the page cache.
            if number:
                rates[name].append(images_per_s)
                print(f"round {number}, {name}: {images_per_s:.1f} images/s", flush=True)
    plain = statistics.median(rates["plain png"])
    conditions = (
        arguments.rounds,
        (arguments.batches - arguments.workers - 1) * arguments.batch,
        arguments.batch,
        arguments.workers,
        "x".join(map(str, crop)),
        "x".join(map(str, image_size)),
        arguments.images,
        processor_name(),
        available_cores(),
        platform.python_version(),
        torch.__version__,
        cv2.__version__,
    )
    rows = []
    for name, values in rates.items():
        median = statistics.median(values)
        row = (name, f"{median:.1f}", f"{min(values):.1f}", f"{max(values):.1f}", f"{median / plain:.2f}", *conditions)
        rows.append(dict(zip(FIELDS, map(str, row), strict=True)))
    return rows


def main() -> None:
    """Measures, prints the result and writes it."""
    parser = benchmark_parser(__doc__, batch=4, rounds=5)
    parser.add_argument("root", type=Path, help="folder for the images; made once")
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--batches", type=int, default=27, help="of each round; the first workers + 1 are not timed")
    parser.add_argument("--workers", type=int, default=2)
    rows = measure(arguments := parser.parse_args())
    write_rows(arguments.csv, rows)
    for row in rows:
        print(f"{row['loader']}: {row['images_per_s']} images/s, {row['ratio_to_plain_png']} times plain png")


if __name__ == "__main__":
    main()
