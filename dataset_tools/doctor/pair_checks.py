"""What is wrong with the split lists and with single pairs, one small check each.

The checks of the lists open no file; those of a pair see what `inspection` keeps of it.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from dataset_tools.config import Crop
from dataset_tools.description import DatasetDescription
from dataset_tools.doctor.findings import Findings
from dataset_tools.doctor.inspection import Observation, Problem
from dataset_tools.samples import Sample
from fasterseg.base.images import described

Splits = Mapping[str, tuple[Sample, ...]]
PairCheck = Callable[[DatasetDescription, Sample, Observation], Iterator[Problem]]

_SHOWN_VALUES = 8
# An index mask of foreign ids has a few unknown values; a picture has hundreds.
_PICTURE_VALUES = 48
_LOSSY_READING = {
    "CMYK": "converted to RGB",
    "I;16": "reduced to 8 bits",
    "I;16B": "reduced to 8 bits",
    "I": "reduced to 8 bits",
    "F": "reduced to 8 bits",
}


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
    """Every line has a mask; a test split without any masks is allowed."""
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
    for folder in dict.fromkeys(sample.image.parent for sample in samples):
        if not folder.is_dir():
            continue
        for path in sorted(folder.iterdir()):
            if path not in known and path.suffix.lower() in endings and path.is_file():
                findings.add("unlisted-file", f"{path} stands in no list", Sample(path, None))


def check_size(_description: DatasetDescription, sample: Sample, observation: Observation) -> Iterator[Problem]:
    """Image and mask have one size."""
    image, mask = observation.image, observation.mask
    if image is None or mask is None or sample.mask is None or image.size == mask.size:
        return
    turned = " (height and width are swapped)" if image.size == mask.size[::-1] else ""
    yield Problem(
        "size-mismatch",
        f"image and mask differ in size (height x width): {described(sample.image, sample.origin)} is "
        f"{image.size[0]}x{image.size[1]}, {sample.mask} is {mask.size[0]}x{mask.size[1]}{turned}",
    )


def check_orientation(_description: DatasetDescription, sample: Sample, observation: Observation) -> Iterator[Problem]:
    """The image is stored upright."""
    if observation.image is not None and observation.image.orientation != 1:
        name = described(sample.image, sample.origin)
        yield Problem("exif-rotation", f"{name} has the EXIF orientation {observation.image.orientation}")


def check_values(description: DatasetDescription, sample: Sample, observation: Observation) -> Iterator[Problem]:
    """The mask holds train ids and the ignore index only."""
    if observation.mask is None or sample.mask is None:
        return
    pixels = observation.mask.pixels
    count, ignore = description.num_classes, description.ignore_index
    wrong = {value: number for value, number in pixels.items() if value >= count and value != ignore}
    if not wrong:
        return
    name = described(sample.mask, sample.origin)
    gray_levels = {_luminance(color) + shift for color in description.colors for shift in (-1, 0, 1)}
    if len(wrong) > _PICTURE_VALUES:
        why = "as a photograph or a mask that was resized with interpolation"
        yield Problem("gray-mask", f"mask {name} has {len(pixels)} different values, {why}")
    elif len(wrong) > 1 and wrong.keys() <= gray_levels:
        values = ", ".join(str(value) for value in list(wrong)[:_SHOWN_VALUES])
        yield Problem("gray-mask", f"mask {name} holds the grey levels of the class colours ({values})")
    else:
        listed = ", ".join(f"{value} ({number} pixels)" for value, number in list(wrong.items())[:_SHOWN_VALUES])
        more = f" and {len(wrong) - _SHOWN_VALUES} more values" if len(wrong) > _SHOWN_VALUES else ""
        yield Problem("mask-values", f"mask {name} holds {listed}{more}; allowed are 0..{count - 1} and {ignore}")


def check_labelled(description: DatasetDescription, sample: Sample, observation: Observation) -> Iterator[Problem]:
    """The mask has labelled pixels."""
    if observation.mask is None or sample.mask is None:
        return
    if observation.mask.pixels.keys() == {description.ignore_index}:
        name = described(sample.mask, sample.origin)
        yield Problem("all-ignored", f"mask {name} holds the ignore index {description.ignore_index} throughout")


def check_palette(description: DatasetDescription, sample: Sample, observation: Observation) -> Iterator[Problem]:
    """The palette of a mask does not give an id the colour of another class."""
    if observation.mask is None or sample.mask is None:
        return
    wrong = []
    for value, color in observation.mask.palette.items():
        if value >= description.num_classes or description.colors[value] == color:
            continue
        if color in description.colors:
            other = description.class_names[description.colors.index(color)]
            wrong.append(f"id {value} ({description.class_names[value]}) has the colour of {other}")
    if wrong:
        more = f" and {len(wrong) - _SHOWN_VALUES} more" if len(wrong) > _SHOWN_VALUES else ""
        name = described(sample.mask, sample.origin)
        yield Problem("palette-order", f"mask {name}: {', '.join(wrong[:_SHOWN_VALUES])}{more}")


PAIR_CHECKS: tuple[PairCheck, ...] = (check_size, check_orientation, check_values, check_labelled, check_palette)


def pair_problems(description: DatasetDescription, sample: Sample, observation: Observation) -> Iterator[Problem]:
    """All that is wrong with a pair: what reading it showed, and what the checks say."""
    yield from observation.problems
    for check in PAIR_CHECKS:
        yield from check(description, sample, observation)


def _luminance(color: tuple[int, int, int]) -> int:
    """Grey level of a colour (ITU-R BT.601), as programs make grey pictures of colour ones."""
    red, green, blue = color
    return round(0.299 * red + 0.587 * green + 0.114 * blue)


class CropCheck:
    """Images at least as large as the crops.

    Args:
        crops: The crops of the stages; may be none.
    """

    def __init__(self, crops: tuple[Crop, ...]) -> None:
        self._crops = crops

    def visit(self, sample: Sample, observation: Observation, findings: Findings) -> None:
        """Compares an image with the crops."""
        if observation.image is None:
            return
        height, width = observation.image.size
        small = []
        for crop in self._crops:
            scaled = (round(height * crop.image_scale), round(width * crop.image_scale))
            if scaled[0] < crop.size_px[0] or scaled[1] < crop.size_px[1]:
                scale = f" at image_scale {crop.image_scale:g}" if crop.image_scale != 1 else ""
                small.append(f"{crop.size_px[0]}x{crop.size_px[1]}{scale} ({crop.source})")
        if small:
            name = described(sample.image, sample.origin)
            findings.add("small-image", f"{name} is {height}x{width}, less than the crop {', '.join(small)}", sample)


class ChannelCheck:
    """Images with the same channels: sorts them by mode, and compares at the end with the most common one."""

    def __init__(self) -> None:
        self._by_mode: defaultdict[str, list[Sample]] = defaultdict(list)

    def visit(self, sample: Sample, observation: Observation) -> None:
        """Notes the mode of an image; a palette image is read as RGB."""
        if observation.image is not None:
            mode = observation.image.mode
            self._by_mode["RGB" if mode == "P" else mode].append(sample)

    def report(self, findings: Findings) -> None:
        """Names the images of rarer modes, and those that lose something on reading."""
        most = max((len(samples) for samples in self._by_mode.values()), default=0)
        common = next((mode for mode, samples in self._by_mode.items() if len(samples) == most), "")
        for mode, samples in self._by_mode.items():
            loss = _LOSSY_READING.get(mode)
            if mode == common and loss is None:
                continue
            why = f" is {loss} on reading" if loss else f", while most images are {common}"
            for sample in samples:
                findings.add("channels", f"{described(sample.image, sample.origin)}: {mode}{why}", sample)
