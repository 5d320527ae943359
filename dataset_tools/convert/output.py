"""Writing a converted dataset: images linked or copied, masks rewritten, the description last.

Shared by all converters. The source is only read; the output folder must be new, empty or our own.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from dataset_tools.dataset import Sample
from dataset_tools.description import DatasetDescription, save_description
from dataset_tools.files import claim_folder, write_bytes
from dataset_tools.masks import read_mask, write_mask

ImageMode = Literal["link", "copy"]


class SourcePair(NamedTuple):
    """One image of a source, its mask where there is one, and the name both get in the output."""

    name: str
    image: Path
    mask: Path | None


class ClassTable(NamedTuple):
    """The classes of a source.

    Attributes:
        names: One per train id.
        colors: RGB per train id.
        train_ids: Train id, or the ignore index, of every value that masks of the source hold.
    """

    names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    train_ids: Mapping[int, int]


def check_output(source: Path, out: Path) -> None:
    """Refuses an output folder that is the source, lies in it or holds it.

    Raises:
        FileNotFoundError: The source does not exist.
        ValueError: The folders overlap.
    """
    if not source.is_dir():
        raise FileNotFoundError(f"source folder not found: {source}")
    inner, outer = out.resolve(), source.resolve()
    if inner.is_relative_to(outer) or outer.is_relative_to(inner):
        raise ValueError(
            f"output {out} and source {source} overlap; give a folder outside the source, which is never changed"
        )


def map_mask(mask: NDArray[np.integer], train_ids: Mapping[int, int], source: Path) -> NDArray[np.uint8]:
    """Replaces the values of a source by train ids.

    Raises:
        ValueError: The mask holds a value that the table lacks; names the file, the values and their pixel counts.
    """
    values, counts = np.unique(mask, return_counts=True)
    unknown = [
        f"{value} ({count} pixels)" for value, count in zip(values, counts, strict=True) if int(value) not in train_ids
    ]
    if unknown:
        raise ValueError(f"mask {source} holds unknown values: {', '.join(unknown)}; known are {sorted(train_ids)}")
    table = np.zeros(int(values.max()) + 1, np.uint8)
    for value in values.tolist():
        table[value] = train_ids[value]
    return np.asarray(table[mask])


def write_dataset(
    out: Path,
    *,
    tool: str,
    name: str,
    source: Path,
    classes: ClassTable,
    splits: Mapping[str, Sequence[SourcePair]],
    image_mode: ImageMode = "link",
    progress: bool = True,
) -> DatasetDescription:
    """Writes a dataset folder; files that an earlier, cut-off run wrote are kept.

    Args:
        out: The folder.
        tool: The command, for the folder's mark.
        name: Name of the dataset.
        source: The folder that is converted.
        classes: Its classes and values.
        splits: Pairs of each split.
        image_mode: Link images to the source, or copy them.
        progress: Show a progress bar.

    Returns:
        The description, as written.

    Raises:
        ValueError: The folder holds something else, or a mask holds an unknown value.
    """
    check_output(source, out)
    claim_folder(out, tool=tool, settings={"source": str(source.resolve()), "images": image_mode})
    described = {}
    for split, pairs in splits.items():
        samples = []
        for pair in track(pairs, description=split, disable=not progress):
            samples.append(_write_pair(out, split, pair, classes.train_ids, image_mode))
        described[split] = tuple(samples)
    description = DatasetDescription(
        root=out, name=name, class_names=classes.names, colors=classes.colors, splits=described
    )
    save_description(description)
    return description


def _write_pair(out: Path, split: str, pair: SourcePair, train_ids: Mapping[int, int], image_mode: ImageMode) -> Sample:
    """Writes one image and mask."""
    image = out / "images" / split / f"{pair.name}{pair.image.suffix}"
    if not image.exists():
        if image_mode == "copy":
            write_bytes(image, pair.image.read_bytes())
        else:
            image.parent.mkdir(parents=True, exist_ok=True)
            # A link whose target is gone does not "exist", yet stands in the way of a new one.
            image.unlink(missing_ok=True)
            image.symlink_to(pair.image.resolve())
    if pair.mask is None:
        return Sample(image, None)
    mask = out / "masks" / split / f"{pair.name}.png"
    if not mask.exists():
        write_mask(mask, map_mask(read_mask(pair.mask), train_ids, pair.mask))
    return Sample(image, mask)
