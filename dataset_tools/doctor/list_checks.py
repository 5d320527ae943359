"""What is wrong with the split lists, without opening a file."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from dataset_tools.dataset import Sample
from dataset_tools.description import DatasetDescription
from dataset_tools.doctor.findings import Findings
from fasterseg.base.images import described

Splits = Mapping[str, tuple[Sample, ...]]


def check_repeats(splits: Splits, findings: Findings) -> None:
    """No list holds an image twice, and no image stands with two masks."""
    first: dict[Path, Sample] = {}
    for samples in splits.values():
        seen: dict[Path, Sample] = {}
        for sample in samples:
            earlier = seen.setdefault(sample.image, sample)
            if earlier is not sample and earlier.mask == sample.mask:
                name = described(sample.image, sample.origin)
                findings.add("listed-twice", f"{name} stands at {earlier.origin or 'an earlier line'} too", sample)
            before = first.setdefault(sample.image, sample)
            if sample.mask is not None and before.mask is not None and before.mask != sample.mask:
                masks = f"{described(before.mask, before.origin)} and {described(sample.mask, sample.origin)}"
                findings.add("two-masks", f"{sample.image} stands with {masks}", before, sample)


def check_shared_masks(splits: Splits, findings: Findings) -> None:
    """No mask stands with two images."""
    owner: dict[Path, Sample] = {}
    for samples in splits.values():
        for sample in samples:
            if sample.mask is None:
                continue
            before = owner.setdefault(sample.mask, sample)
            if before.image != sample.image:
                images = f"{described(before.image, before.origin)} and {described(sample.image, sample.origin)}"
                findings.add("shared-mask", f"{sample.mask} stands with {images}", before, sample)


def check_missing_masks(splits: Splits, findings: Findings) -> None:
    """Every line has a mask; a test split without any is meant so."""
    for name, samples in splits.items():
        if "test" in name.lower() and all(sample.mask is None for sample in samples):
            continue
        for sample in samples:
            if sample.mask is None:
                findings.add("no-mask", f"no mask for {described(sample.image, sample.origin)}", sample)


def check_shared_files(splits: Splits, findings: Findings) -> None:
    """No image stands in two splits."""
    first: dict[Path, tuple[str, Sample]] = {}
    for name, samples in splits.items():
        for sample in samples:
            split, before = first.setdefault(sample.image, (name, sample))
            if split != name:
                places = f"{split} ({before.origin}) and {name} ({sample.origin})"
                findings.add("same-file-in-splits", f"{sample.image} stands in {places}", sample)


def check_unlisted(description: DatasetDescription, findings: Findings) -> None:
    """Every image in the folders of listed images stands in a list itself."""
    samples = [sample for split in description.splits.values() for sample in split]
    known = {path for sample in samples for path in (sample.image, sample.mask) if path is not None}
    endings = {sample.image.suffix.lower() for sample in samples}
    for folder in _unique(sample.image.parent for sample in samples):
        if not folder.is_dir():
            continue
        for path in sorted(folder.iterdir()):
            if path not in known and path.suffix.lower() in endings and path.is_file():
                findings.add("unlisted-file", f"{path} stands in no list", Sample(path, None))


def _unique(folders: Iterable[Path]) -> list[Path]:
    """Each folder once, in order."""
    return list(dict.fromkeys(folders))
