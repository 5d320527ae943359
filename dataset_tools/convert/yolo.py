"""YOLO's segmentation labels and semantic masks (Ultralytics) to a dataset folder.

    data.yaml: path, train, val, test (a folder, a list of files, or several of them), names
    images/<split>/X.jpg with labels/<split>/X.txt, one object per line: class x1 y1 x2 y2 x3 y3 ...

Coordinates are shares of the image's width and height. A line of four numbers after the class is a box: centre and
size.

A data file with `masks_dir` is of a semantic set: masks/<split>/X.png beside images/<split>/X.jpg, where masks is the
value of `masks_dir`. Its pixels are the numbers of `names`, and 255 is ignored.

Source: the Ultralytics documentation of instance segmentation and of semantic segmentation datasets.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from dataset_tools.convert.classes import NamedClass, plan_classes
from dataset_tools.convert.painting import (
    Canvas,
    ShapeOptions,
    ShapePlan,
    Unlabelled,
    plan_shapes,
    trace_polygons,
)
from dataset_tools.convert.pairing import Pairing, Unmatched, standard_split
from dataset_tools.convert.source import IndexMask, PaintedMask, SourceDataset, SourceImage
from dataset_tools.labels import IGNORE_TRAIN_ID
from dataset_tools.lists import read_lines
from dataset_tools.paths import IMAGE_ENDINGS, find_paths, path_below
from fasterseg.base.errors import list_problems
from fasterseg.base.yamlfile import read_yaml_texts

Boxes = Literal["error", "paint", "skip"]
YOLO_OPTIONS = ShapeOptions(order="area")
_SPLITS = ("train", "val", "valid", "test")
_OPTIONAL_SPLIT = "test"
_MASKS_KEY, _MAPPING_KEY = "masks_dir", "label_mapping"
_MASK_ENDINGS = (".png", ".PNG", ".bmp", ".tif", ".tiff")
_NOTHING = ("", "~", "null", "Null", "NULL")
# Tools round, and clip late: a thousandth of the image beyond its edge is accepted and clipped.
_TOLERANCE = 1e-3


class YoloMask(NamedTuple):
    """The label file of one image; None where it has none, which is an image of background."""

    file: Path | None
    image: Path
    plan: ShapePlan
    boxes: Boxes

    @property
    def is_drawn(self) -> bool:
        """Polygons are drawn on the upright picture."""
        return True

    @property
    def files(self) -> tuple[Path, ...]:
        """The label file, where there is one."""
        return () if self.file is None else (self.file,)

    @property
    def facts(self) -> str:
        """The classes and what becomes of boxes."""
        return repr((self.file is None, self.plan, self.boxes))

    def stated_size(self) -> tuple[int, int] | None:
        """None: shares of a size fit every size."""
        return None

    def paint(self, size: tuple[int, int]) -> PaintedMask:
        """Paints the polygons, in the rule of COCO's tools."""
        canvas = Canvas(self.plan, size)
        if self.file is None:
            canvas.skip("images without a label file: all background (--unlabelled background)")
            return canvas.finish()
        for number, line in read_lines(self.file):
            self._add(canvas, line.split(), f"{self.file}:{number}")
        return canvas.finish()

    def _add(self, canvas: Canvas, fields: Sequence[str], place: str) -> None:
        """Adds one line."""
        try:
            # Some programs write all numbers of a line in one form: 0.000000.
            class_number, values = float(fields[0]), np.array([float(field) for field in fields[1:]])
            class_id = int(class_number)
        except (ValueError, OverflowError) as error:
            raise ValueError(f"{place}: {' '.join(fields[:6])!r}, expected a class and coordinates") from error
        if class_id != class_number or not (class_id in self.plan.values or class_id in self.plan.skipped):
            raise ValueError(f"{place}: class {fields[0]} is none of the names in the data file")
        if len(values) == 4:
            if self.boxes == "error":
                raise ValueError(f"{place}: a box, no polygon; choose what becomes of boxes with --boxes paint or skip")
            if self.boxes == "skip":
                canvas.skip("boxes (--boxes skip)")
                return
            (x, y, width, height) = values.tolist()
            left, top, right, bottom = x - width / 2, y - height / 2, x + width / 2, y + height / 2
            values = np.array([left, top, right, top, right, bottom, left, bottom])
        if len(values) % 2 == 0 and canvas.leaves_out(len(values) // 2):
            return
        if len(values) < 6 or len(values) % 2:
            raise ValueError(f"{place}: {len(values)} coordinates, expected x and y of 3 or more corners")
        if not np.isfinite(values).all() or values.min() < -_TOLERANCE or values.max() > 1 + _TOLERANCE:
            raise ValueError(
                f"{place}: coordinates {values.min():g}..{values.max():g}, expected shares of the image size, 0..1; "
                "are they in pixels?"
            )
        height_px, width_px = canvas.size
        points = np.clip(values, 0, 1).reshape(-1, 2) * (width_px, height_px)
        canvas.add(class_id, trace_polygons([points], canvas.size))


def read_yolo(
    source: Path,
    *,
    data: Path | None = None,
    options: ShapeOptions = YOLO_OPTIONS,
    boxes: Boxes = "error",
    unlabelled: Unlabelled = "error",
    unmatched: Unmatched = "error",
) -> SourceDataset:
    """Lists a set in YOLO's form.

    Args:
        source: The folder; only read.
        data: The data file; when not given, the one YAML file in the folder that has `names`.
        options: How polygons become masks. By default the smaller one of two overlapping objects is seen, and pixels
            without an object are a class `background` with the train id 0.
        boxes: What becomes of lines that are boxes: an error, painted as rectangles, or left out.
        unlabelled: What an image without a label file is: an error, or an image of background alone.
        unmatched: What becomes of images without a label file that are not background: an error, or left out.

    Returns:
        The source.

    Raises:
        FileNotFoundError: The data file or a folder of images is missing.
        ValueError: The data file is malformed, or images have no label file; names all of them. Or none has one, which
            is another form than this.
    """
    file = data or _find_data_file(source)
    content = _read_data_file(file)
    pairing = Pairing(unmatched)
    if _MASKS_KEY in content:
        if options != YOLO_OPTIONS._replace(ignore=options.ignore) or boxes != "error" or unlabelled != "error":
            raise ValueError(
                f"{file} has {_MASKS_KEY}: its masks hold pixels, and of the options for objects, boxes and images "
                "without labels they take --ignore and --unmatched alone"
            )
        return _read_semantic(source, content, file, options.ignore, pairing)
    plan = plan_shapes(_read_names(content, file), options, file)
    images = _list_images(source, content, file, pairing)
    splits = _list_labelled(
        source, images, lambda label, image: YoloMask(label, image, plan, boxes), unlabelled, pairing
    )
    settings = {**options.settings(), "boxes": boxes, "unlabelled": unlabelled}
    return SourceDataset("convert yolo", source, plan.table, splits, settings, pairing.skipped, plan.notes)


def _list_labelled(
    source: Path,
    images: Iterable[tuple[str, str, Path]],
    make: Callable[[Path | None, Path], YoloMask],
    unlabelled: Unlabelled,
    pairing: Pairing,
) -> dict[str, list[SourceImage]]:
    """Joins images (split, name, path) and their label files.

    Raises:
        ValueError: Images have no label file; names all of them. Or none has one.
    """
    splits: dict[str, list[SourceImage]] = {}
    labelled = 0
    for split, name, image in images:
        label = _beside_images(image, "labels").with_suffix(".txt")
        labelled += label.is_file()
        if label.is_file() or unlabelled == "background":
            mask = make(label if label.is_file() else None, image)
            splits.setdefault(split, []).append(SourceImage(name, image, mask))
        else:
            pairing.lacks("images without a label file", f"no label file for {image}: {label} is missing")
    if splits and not labelled:
        raise ValueError(
            f"{source}: not one image has a label file, such as {label}; are they in another folder, or is this a set "
            "with masks (`convert folders`)?"
        )
    if pairing.problems:
        raise ValueError(
            f"{source}: images without labels:{list_problems(pairing.problems)}\nif they show background alone, say so "
            "with --unlabelled background; leave them out with --unmatched skip"
        )
    return splits


def _read_semantic(
    source: Path, content: Mapping[str, Any], file: Path, ignore: Sequence[str], pairing: Pairing
) -> SourceDataset:
    """Lists a semantic set.

    Raises:
        ValueError: Images have no mask (names all of them), or the data file maps the values of the masks.
    """
    if _MAPPING_KEY in content:
        raise ValueError(
            f"{file}: {_MAPPING_KEY} is not read; give the ids and their train ids with `convert folders --labels`"
        )
    plan = plan_classes(_read_names(content, file), ignore, file)
    train_ids = {IGNORE_TRAIN_ID: IGNORE_TRAIN_ID, **plan.train_ids}
    folder = str(content[_MASKS_KEY]).replace("\\", "/")
    splits: dict[str, list[SourceImage]] = {}
    for split, name, image in _list_images(source, content, file, pairing):
        place = _beside_images(image, folder)
        mask = next((path for ending in _MASK_ENDINGS if (path := place.with_suffix(ending)).is_file()), None)
        if mask is None:
            pairing.lacks("images without a mask", f"no mask for {image}: {place.with_suffix('.png')} is missing")
        else:
            splits.setdefault(split, []).append(SourceImage(name, image, IndexMask(mask, train_ids)))
    pairing.refuse(source)
    settings = {_MASKS_KEY: folder, "ignore": sorted(ignore)}
    return SourceDataset("convert yolo", source, plan.table, splits, settings, pairing.skipped, plan.notes)


def _list_images(
    source: Path, content: Mapping[str, Any], file: Path, pairing: Pairing
) -> Iterator[tuple[str, str, Path]]:
    """Split, name and path of every image; a test set that was not exported is left out."""
    for key in _SPLITS:
        entries = content.get(key) or []
        for entry in entries if isinstance(entries, list) else [entries]:
            try:
                images = _list_entry(source, content.get("path"), str(entry), file)
            except FileNotFoundError:
                if key != _OPTIONAL_SPLIT:
                    raise
                pairing.skipped[f"{key}: {entry} is not there"] += 1
            else:
                yield from ((standard_split(key), name, image) for name, image in images)


def _find_data_file(source: Path) -> Path:
    """The one YAML file of a folder that names classes."""
    paths = [*find_paths(source, "*.yaml"), *find_paths(source, "*.yml")]
    found = [path for path in paths if "names" in _read_data_file(path)]
    if len(found) != 1:
        listed = ", ".join(map(str, found)) or "none"
        raise FileNotFoundError(f"expected one YAML file with `names` in {source}, found {listed}; give it with --data")
    return found[0]


def _read_data_file(path: Path) -> dict[str, Any]:
    """Reads a data file."""
    if not path.is_file():
        raise FileNotFoundError(f"data file not found: {path}")
    content = read_yaml_texts(path)
    if not isinstance(content, dict):
        return {}
    return {key: value for key, value in content.items() if not (isinstance(value, str) and value in _NOTHING)}


def _read_names(content: Mapping[str, Any], file: Path) -> list[NamedClass]:
    """The classes of a data file: a list, or numbers with names, each as it is written there."""
    names = content.get("names")
    if not isinstance(names, list | dict):
        raise ValueError(f"{file}: names must be a list, or numbers with names; found {names!r}")
    numbered = dict(enumerate(names)) if isinstance(names, list) else names
    try:
        by_number = {int(number): name for number, name in numbered.items()}
    except ValueError as error:
        raise ValueError(f"{file}: names must be a list, or numbers with names; found {names!r}") from error
    if len(by_number) != len(numbered):
        raise ValueError(f"{file}: names gives a number twice; found {names!r}")
    wrong = [
        f"{number} is {name!r}" for number, name in by_number.items() if not isinstance(name, str) or not name.strip()
    ]
    if wrong:
        raise ValueError(f"{file}: names must be texts, found: {', '.join(wrong)}")
    return [NamedClass(name, number) for number, name in sorted(by_number.items())]


def _list_entry(source: Path, path: object, entry: str, file: Path) -> list[tuple[str, Path]]:
    """The images of one entry and their names; the entry is below `path`, the data file's folder or the source.

    Exports often hold a `path` of another computer, or lead one folder too high; the places are tried in that order.
    """
    bases = [*([path_below(file.parent, str(path))] if path else []), file.parent, source]
    below = entry.replace("\\", "/").removeprefix("../")
    candidates = [path_below(base, name) for name in dict.fromkeys((entry, below)) for base in dict.fromkeys(bases)]
    found = next((candidate for candidate in candidates if candidate.exists()), None)
    if found is None:
        raise FileNotFoundError(f"{file}: {entry} not found; looked for {', '.join(map(str, candidates))}")
    if found.is_dir():
        images = [path for path in find_paths(found, "*", deep=True) if path.suffix.lower() in IMAGE_ENDINGS]
        return [(image.relative_to(found).with_suffix("").as_posix(), image) for image in images]
    listed = [path_below(found.parent, line.strip()) for _, line in read_lines(found)]
    return [(image.stem, image) for image in listed]


def _beside_images(image: Path, folder: str) -> Path:
    """The path of an image with another folder in place of the last folder `images`."""
    parts = list(image.parts)
    for position in range(len(parts) - 2, -1, -1):
        if parts[position] == "images":
            parts[position] = folder
            break
    return Path(*parts)
