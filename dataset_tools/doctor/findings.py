"""What the doctor can find: one kind per code, with its severity and how to mend it, and the findings of a dataset."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from dataset_tools.samples import Sample

MAX_EXAMPLES = 10


class Severity(StrEnum):
    """How bad a finding is.

    An error makes training go wrong or its scores worthless; a warning may make them worse; a note is worth knowing.
    """

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True)
class FindingKind:
    """What all findings of one code share.

    Attributes:
        code: Stable name, for scripts.
        severity: How bad it is.
        title: What is wrong, without numbers.
        mend: What to do about it.
    """

    code: str
    severity: Severity
    title: str
    mend: str


_ERRORS = (
    ("description", "dataset.yaml or a split list is malformed", "correct the named fields and lines"),
    (
        "foreground-as-ignore",
        "a foreground class has the number of the ignore index",
        "give the class its own train id (its position in `classes`) and keep ignore_index for pixels without a label; "
        "masks of 0 and 255 need 255 rewritten as the class's id",
    ),
    ("missing-file", "files of the lists do not exist", "restore the files or take the lines out of the list"),
    (
        "unreadable",
        "files are damaged, cut off or not images",
        "fetch or export the files again, or take the lines out of the list",
    ),
    (
        "too-large",
        "images or masks have more pixels than are read",
        "cut them into tiles or scale them down, image and mask alike, or raise the limit that the message names",
    ),
    (
        "size-mismatch",
        "image and mask differ in size",
        "export both at one size; where height and width are swapped, the mask was drawn on the rotated picture",
    ),
    (
        "color-mask",
        "masks hold colours where class ids are expected",
        "convert the masks from colours to ids (`python -m dataset_tools convert`), or swap image and mask in the list "
        "where they stand in the wrong order",
    ),
    (
        "gray-mask",
        "masks look like index masks but hold the grey levels of a picture",
        "write the masks again from their source: map colours one by one, never turn them into grey, and resize "
        "masks only to the nearest pixel",
    ),
    (
        "mask-mode",
        "masks are not stored as one channel of 8 or 16 bits",
        "save the masks as 8-bit grey or palette PNG with one class id per pixel",
    ),
    ("lossy-mask", "masks are stored with lossy compression, which smears class ids", "export the masks as PNG"),
    (
        "mask-values",
        "masks hold values outside the classes",
        "map the masks to train ids, or add the classes to dataset.yaml",
    ),
    (
        "same-file-in-splits",
        "the same file stands in several splits",
        "keep each image in one split, or examine only the splits that are meant to be apart (--split)",
    ),
    (
        "duplicate-across-splits",
        "different files of several splits hold the same picture",
        "keep each picture in one split: scores on copies of training images mean nothing",
    ),
    (
        "group-across-splits",
        "a group of files stands in several splits",
        "split by group (`python -m dataset_tools split` with --group-by), so that no group stands on both sides",
    ),
)
_WARNINGS = (
    (
        "exif-rotation",
        "images have an orientation tag, which training does not apply",
        "rotate the pixels of the source, remove the tag and convert again (the masks must fit the stored pixels)",
    ),
    (
        "channels",
        "images differ in channels or depth from the others, or lose some on reading",
        "save all images as 8-bit RGB, or all as 8-bit grey",
    ),
    ("listed-twice", "a list holds the same image more than once", "remove the repeated lines"),
    ("two-masks", "an image stands with different masks", "keep the line with the right mask"),
    (
        "shared-mask",
        "a mask stands with several images",
        "give each image its own mask; a mask that was missing may have been replaced by its neighbour's",
    ),
    ("no-mask", "lines have an image but no mask, so that every pixel is ignored", "add the mask or remove the line"),
    ("all-ignored", "masks without a single labelled pixel", "label the images or take them out of the list"),
    ("unused-class", "classes occur in no mask", "remove the classes, or map the masks so that they occur"),
    (
        "class-not-in-split",
        "classes occur in another split but not in this one",
        "split stratified by class content, so that each split holds every class",
    ),
    (
        "palette-order",
        "the palette of masks gives ids the colours of other classes",
        "check the order of `classes` in dataset.yaml against the program that wrote the masks",
    ),
    (
        "small-image",
        "images are smaller than the crop and will be padded",
        "choose a smaller crop or a larger image_scale",
    ),
    ("duplicate", "several images of a split are the same picture", "remove the copies: they count more than others"),
    (
        "near-duplicate-across-splits",
        "nearly the same picture stands in several splits",
        "split by scene or drive (see --group-by), so that scores are those of unseen images",
    ),
    (
        "group-unmatched",
        "file names do not match the group pattern",
        "widen the pattern: files without a group are not compared",
    ),
)
_NOTES = (
    (
        "unlisted-file",
        "images beside the listed ones stand in no list",
        "add them to a list, or leave them if they were left out on purpose",
    ),
)

FINDING_KINDS = {
    code: FindingKind(code, severity, title, mend)
    for severity, rows in ((Severity.ERROR, _ERRORS), (Severity.WARNING, _WARNINGS), (Severity.NOTE, _NOTES))
    for code, title, mend in rows
}


@dataclass(frozen=True)
class Example:
    """One place where something was found.

    Attributes:
        detail: What was found there, with the file and its list line.
        samples: The pairs to show as pictures; empty where there are none.
    """

    detail: str
    samples: tuple[Sample, ...] = ()


@dataclass
class Finding:
    """All places where one kind of thing was found; only the first few are kept.

    Attributes:
        kind: What it is.
        count: How often it was found.
        examples: The first places.
    """

    kind: FindingKind
    count: int = 0
    examples: list[Example] = field(default_factory=list)


class Findings:
    """Collects what the checks find, in bounded memory."""

    def __init__(self) -> None:
        self._by_code: dict[str, Finding] = {}

    def add(self, code: str, detail: str, *samples: Sample) -> None:
        """Notes one place.

        Args:
            code: A code of `FINDING_KINDS`.
            detail: What was found there.
            samples: The pairs to show as pictures.
        """
        finding = self._by_code.setdefault(code, Finding(FINDING_KINDS[code]))
        finding.count += 1
        if len(finding.examples) < MAX_EXAMPLES:
            finding.examples.append(Example(detail, samples))

    def __iter__(self) -> Iterator[Finding]:
        """The findings, the worst first."""
        order = list(FINDING_KINDS)
        return iter(sorted(self._by_code.values(), key=lambda finding: order.index(finding.kind.code)))
