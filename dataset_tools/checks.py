"""A quick check of a split before a long run starts.

The stages call `verify_split` first, so that a missing file is named after seconds instead of hours into training.
"""

from collections.abc import Sequence

from dataset_tools.dataset import Sample, described, read_image, read_label
from dataset_tools.description import DatasetDescription

_SHOWN_PROBLEMS = 20


def verify_split(description: DatasetDescription, split: str, *, sample_limit: int | None = 32) -> None:
    """Checks that every file of a split exists, and reads an evenly spaced sample of its pairs.

    Args:
        description: The dataset.
        split: Its name, or several joined by "+".
        sample_limit: How many pairs are read to check decoding, sizes and mask values; None reads all.

    Raises:
        ValueError: The split is unknown or empty, or at least one pair is wrong; the message lists the problems of all
            of them (the first 20, then their number).
    """
    samples = description.samples(split)
    problems: list[str] = []
    sound: list[Sample] = []
    for sample in samples:
        missing = _missing_files(sample)
        problems.extend(missing)
        if not missing:
            sound.append(sample)
    for sample in _spread(sound, sample_limit):
        try:
            image = read_image(sample.image, sample.origin)
            read_label(
                sample,
                (image.shape[0], image.shape[1]),
                num_classes=description.num_classes,
                ignore_index=description.ignore_index,
            )
        except ValueError as error:
            problems.append(str(error))
    if problems:
        shown = problems[:_SHOWN_PROBLEMS]
        if len(problems) > len(shown):
            shown.append(f"... and {len(problems) - len(shown)} more")
        raise ValueError(f"split {split!r} of the dataset {description.root} has problems:\n  " + "\n  ".join(shown))


def _missing_files(sample: Sample) -> list[str]:
    """Names the files of a pair that do not exist."""
    kinds = (("image", sample.image), ("mask", sample.mask))
    return [
        f"{kind} not found: {described(path, sample.origin)}"
        for kind, path in kinds
        if path is not None and not path.is_file()
    ]


def _spread(samples: Sequence[Sample], limit: int | None) -> Sequence[Sample]:
    """At most `limit` samples, evenly spaced and with the first and the last among them."""
    if limit is None or len(samples) <= limit:
        return samples
    if limit < 2:
        return samples[:limit]
    return [samples[index * (len(samples) - 1) // (limit - 1)] for index in range(limit)]
