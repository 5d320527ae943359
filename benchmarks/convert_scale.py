"""The memory that converting and checking a dataset needs, by its number of files.

Makes sets of small images with polygon files, converts them, kills a second conversion halfway and lets it go on, and
checks the result; every step runs in a process of its own, whose peak of resident memory is recorded as CSV.

    python -m benchmarks.convert_scale --csv benchmarks/convert_scale_64x64_linux_x86_64.csv

Any CPU, a few minutes. Result: 1,000 files need 278 MiB to convert and 276 MiB to check, 10,000 306 MiB and 293 MiB;
a conversion killed after 3,553 of 10,000 masks went on and gave the same bytes.
"""

import csv
import io
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from benchmarks.options import benchmark_parser
from dataset_tools.description import load_description
from fasterseg.base.files import write_text
from fasterseg.base.machine import available_cores

FIELDS = ("files", "image_size", "step", "masks_before", "peak_rss_mib", "ratio_to_fewest", "python", "machine")
_VALIDATION_SHARE = 10
_PALETTE = ("road", "car", "building", "sky")


class Measurement(NamedTuple):
    """The peak of one step."""

    files: int
    step: str
    masks_before: int
    peak_rss_mib: float


def make_source(root: Path, count: int, size_px: int) -> Path:
    """Makes a set in Cityscapes' folder form: noise images, and a polygon file of four labels beside each.

    Args:
        root: Folder to fill.
        count: Number of images; every tenth is of the split val.
        size_px: Height and width of the images.

    Returns:
        The folder.
    """
    generator = np.random.default_rng(0)
    for number in range(count):
        split = "val" if number % _VALIDATION_SHARE == 0 else "train"
        stem = f"{number // 100:03d}/{number:06d}"
        image = root / "leftImg8bit" / split / f"{stem}_leftImg8bit.png"
        polygons = root / "gtFine" / split / f"{stem}_gtFine_polygons.json"
        for folder in (image.parent, polygons.parent):
            folder.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (size_px, size_px, 3), np.uint8)
        image.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
        corners = generator.integers(0, size_px, (len(_PALETTE), 3, 2))
        objects = [
            {"label": label, "polygon": points.tolist()} for label, points in zip(_PALETTE, corners, strict=True)
        ]
        polygons.write_text(json.dumps({"imgHeight": size_px, "imgWidth": size_px, "objects": objects}))
    return root


def peak_rss_mib(arguments: Sequence[str]) -> float:
    """Runs a command of `dataset_tools` and measures it.

    Returns:
        The peak of resident memory of the largest of its processes, in MiB.

    Raises:
        RuntimeError: It failed.
    """
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(_command(arguments), stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            output.seek(0)
            raise RuntimeError(f"{' '.join(arguments)} failed:\n{output.read().decode()[-2000:]}")
    return usage.ru_maxrss / 1024


def _command(arguments: Sequence[str]) -> list[str]:
    """The command line of a command of `dataset_tools`."""
    return [sys.executable, "-m", "dataset_tools", *arguments]


def cut_off(arguments: Sequence[str], masks: Path, count: int) -> int:
    """Starts a conversion and kills it as soon as it has written some masks.

    Returns:
        How many there are.

    Raises:
        RuntimeError: It ended before.
    """
    process = subprocess.Popen(_command(arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while sum(1 for _ in masks.rglob("*.png")) < count:
        if process.poll() is not None:
            raise RuntimeError("the conversion ended before it could be cut off; take more files")
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return sum(1 for _ in masks.rglob("[!.]*.png"))


def measure(folder: Path, count: int, size_px: int) -> list[Measurement]:
    """Converts, converts again with a cut, and checks.

    Args:
        folder: Where the sets go.
        count: Number of images.
        size_px: Their height and width.
    """
    source = make_source(folder / f"source{count}", count, size_px)
    whole, cut = folder / f"whole{count}", folder / f"cut{count}"
    convert = ["convert", "cityscapes", str(source)]
    options = ["--masks-from", "polygons"]
    found = [Measurement(count, "convert", 0, peak_rss_mib([*convert, str(whole), *options]))]
    before = cut_off([*convert, str(cut), *options], cut / "masks", count // 3)
    found.append(Measurement(count, "go on", before, peak_rss_mib([*convert, str(cut), *options])))
    for split, samples in load_description(whole).splits.items():
        others = load_description(cut).splits[split]
        for one, other in zip(samples, others, strict=True):
            assert one.mask is not None and other.mask is not None, "every image has a mask"
            assert one.mask.read_bytes() == other.mask.read_bytes(), f"{other.mask} differs from the uncut conversion"
    found.append(Measurement(count, "check", count, peak_rss_mib(["check", str(whole)])))
    shutil.rmtree(folder / f"cut{count}")
    return found


def as_csv(measurements: Sequence[Measurement], size_px: int) -> str:
    """The measurements as CSV; each peak also as a ratio to the same step with the fewest files."""
    fewest = {found.step: found.peak_rss_mib for found in reversed(measurements)}
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(FIELDS)
    machine = f"{platform.system()} {platform.machine()}, {available_cores()} CPUs"
    for found in measurements:
        ratio = found.peak_rss_mib / fewest[found.step]
        writer.writerow(
            (found.files, f"{size_px}x{size_px}", found.step, found.masks_before, f"{found.peak_rss_mib:.1f}",
             f"{ratio:.3f}", platform.python_version(), machine)
        )  # fmt: skip
    return text.getvalue()


def main() -> None:
    """Runs the benchmark."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--files", type=int, nargs="+", default=[1000, 10000], help="numbers of images, ascending")
    parser.add_argument("--size-px", type=int, default=64, help="height and width of the images")
    arguments = parser.parse_args()
    measurements: list[Measurement] = []
    with tempfile.TemporaryDirectory() as folder:
        for count in arguments.files:
            measurements += measure(Path(folder), count, arguments.size_px)
    text = as_csv(measurements, arguments.size_px)
    print(text, end="")
    if arguments.csv is not None:
        write_text(arguments.csv, text)


if __name__ == "__main__":
    main()
