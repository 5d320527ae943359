"""Which classes occur how often, what that says about the masks, and loss weights that even it out."""

import math
from dataclasses import dataclass

import numpy as np

from dataset_tools.description import DatasetDescription
from dataset_tools.doctor.findings import Findings
from dataset_tools.doctor.inspection import Observation

WEIGHT_FORMULA = "1 / ln(1.02 + share of the labelled pixels), as in ENet (Paszke et al., 2016)"


@dataclass(frozen=True)
class ClassShare:
    """How often a class occurs in the examined splits.

    Attributes:
        name: The class.
        color: Its colour.
        pixels: Number of pixels by split.
        images: Number of images that contain it, by split.
        share: Part of all labelled pixels, 0..1.
        weight: Suggested loss weight by `WEIGHT_FORMULA`.
    """

    name: str
    color: tuple[int, int, int]
    pixels: dict[str, int]
    images: dict[str, int]
    share: float
    weight: float


class ClassCounts:
    """Counts pixels and images of every class, split by split.

    Args:
        description: The dataset.
    """

    def __init__(self, description: DatasetDescription) -> None:
        self._description = description
        self._pixels: dict[str, np.ndarray[tuple[int], np.dtype[np.int64]]] = {}
        self._images: dict[str, np.ndarray[tuple[int], np.dtype[np.int64]]] = {}
        self.ignored_pixels = 0

    def visit(self, split: str, observation: Observation) -> None:
        """Counts one mask."""
        if observation.mask is None:
            return
        count = self._description.num_classes
        pixels = self._pixels.setdefault(split, np.zeros(count, np.int64))
        images = self._images.setdefault(split, np.zeros(count, np.int64))
        for value, number in observation.mask.pixels.items():
            if value < count:
                pixels[value] += number
                images[value] += 1
            elif value == self._description.ignore_index:
                self.ignored_pixels += number

    def shares(self) -> tuple[ClassShare, ...]:
        """The classes in order of their train ids."""
        totals = sum(self._pixels.values(), np.zeros(self._description.num_classes, np.int64))
        labelled = max(1, int(totals.sum()))
        return tuple(
            ClassShare(
                name=name,
                color=self._description.colors[train_id],
                pixels={split: int(pixels[train_id]) for split, pixels in self._pixels.items()},
                images={split: int(images[train_id]) for split, images in self._images.items()},
                share=int(totals[train_id]) / labelled,
                weight=1 / math.log(1.02 + int(totals[train_id]) / labelled),
            )
            for train_id, name in enumerate(self._description.class_names)
        )

    def report(self, findings: Findings) -> None:
        """Names classes that no mask holds, at all or in a split, and a foreground hidden in the ignore index."""
        if not self._pixels:
            return
        shares = self.shares()
        used = [share for share in shares if share.share > 0]
        unused = [share for share in shares if share.share == 0]
        if unused and len(used) == 1 and self.ignored_pixels:
            findings.add(
                "foreground-as-ignore",
                f"{used[0].name} is the only class that occurs, and {self.ignored_pixels} pixels are the ignore index "
                f"{self._description.ignore_index}: they may be {' or '.join(share.name for share in unused[:5])}",
            )
            return
        for share in unused:
            findings.add("unused-class", f"{share.name} (id {shares.index(share)}) occurs in no mask")
        for share in used:
            for split, pixels in share.pixels.items():
                if pixels == 0:
                    elsewhere = ", ".join(
                        f"{number} pixels in {name}" for name, number in share.pixels.items() if number
                    )
                    findings.add("class-not-in-split", f"{share.name} does not occur in {split} ({elsewhere})")
