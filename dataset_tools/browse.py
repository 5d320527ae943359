"""Contact sheets: images of a dataset with their masks laid over, before and after augmentation.

`select_samples` draws the images, `make_tiles` makes their pictures, and `sheet_png` and `sheet_html` put them on one
picture or on one HTML page that stands alone.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dataset_tools.config import Crop
from dataset_tools.description import DatasetDescription
from dataset_tools.pictures import data_uri, overlay, render_page, shrink
from dataset_tools.samples import Sample, read_pair
from dataset_tools.transforms import DEFAULT_SCALES, TrainTransform
from fasterseg.base.console import tracked
from fasterseg.base.text import printable

_COLUMNS = 2
_MARGIN = 18
_GAP = 6
_TEXT_PX = 14
_TITLE_PX = 20
_LINE = 22
_INK, _SOFT, _PAPER = (26, 34, 43), (91, 102, 115), (255, 255, 255)
_LegendEntry = tuple[int, int, str, tuple[int, int, int] | None]


@dataclass(frozen=True)
class Tile:
    """One image of a contact sheet.

    Attributes:
        caption: Its split, list line and file name.
        pictures: What to show side by side, each with a word on what it is; RGB, (H, W, 3).
    """

    caption: str
    pictures: tuple[tuple[str, NDArray[np.uint8]], ...]


@dataclass(frozen=True)
class Selection:
    """Which images a contact sheet shows.

    Attributes:
        split: Name of the split, or several joined by "+".
        count: How many images at most.
        class_name: Only images that contain this class; None for any.
        seed: Decides which images, and their augmentation.
    """

    split: str
    count: int
    class_name: str | None = None
    seed: int = 0

    def title(self, description: DatasetDescription, crop: Crop | None) -> str:
        """What the sheet shows, in one line."""
        parts = [f"{description.name}, {self.split}"]
        if self.class_name is not None:
            parts.append(f"with {self.class_name}")
        if crop is not None:
            parts.append(f"augmented, seed {self.seed}")
        return ", ".join(parts)


def select_samples(description: DatasetDescription, selection: Selection) -> list[Sample]:
    """Draws images at random, in list order.

    Args:
        description: The dataset.
        selection: What to draw. With a class name, masks are read until enough of them contain it.

    Returns:
        The samples.

    Raises:
        ValueError: The split or the class is unknown, no mask contains the class, or a mask is damaged.
        FileNotFoundError: A mask is missing.
    """
    samples = description.samples(selection.split)
    order = [int(position) for position in np.random.default_rng(selection.seed).permutation(len(samples))]
    if selection.class_name is None:
        return [samples[position] for position in sorted(order[: selection.count])]
    if selection.class_name not in description.class_names:
        raise ValueError(
            f"no class {selection.class_name!r} in {description.root}; it has {', '.join(description.class_names)}"
        )
    train_id = description.class_names.index(selection.class_name)
    found: list[int] = []
    for position in tracked(order, "masks"):
        if len(found) == selection.count:
            break
        _, label = read_pair(
            samples[position], num_classes=description.num_classes, ignore_index=description.ignore_index
        )
        if bool((label == train_id).any()):
            found.append(position)
    if not found:
        raise ValueError(f"no mask of the split {selection.split!r} contains the class {selection.class_name!r}")
    return [samples[position] for position in sorted(found)]


def make_tiles(
    description: DatasetDescription, samples: list[Sample], *, crop: Crop | None, seed: int, width_px: int
) -> Iterator[Tile]:
    """Reads images and makes their pictures.

    Args:
        description: The dataset.
        samples: What to show.
        crop: Show each image before and after the augmentation with this crop; None shows image and overlay.
        seed: Decides the augmentation, together with the number of the image on the sheet.
        width_px: Width of a picture.

    Yields:
        One tile per sample.

    Raises:
        ValueError: A pair is damaged or does not fit together, or the crop is not divisible by 32.
        FileNotFoundError: A file is missing.
    """
    colors, ignore_index = description.colors, description.ignore_index
    transform = None if crop is None else _transform(description, crop)
    for number, sample in enumerate(samples):
        image, label = read_pair(sample, num_classes=description.num_classes, ignore_index=ignore_index)
        small = shrink(image, width_px)
        covered = overlay(small, label, colors, ignore_index=ignore_index)
        if transform is None:
            pictures = (("image", small), ("overlay", covered))
        else:
            cut, cut_label = transform.augment(image, label, np.random.default_rng((seed, number)))
            after = overlay(shrink(cut, width_px), cut_label, colors, ignore_index=ignore_index)
            height, width = transform.crop_size_px
            pictures = (("before", covered), (f"after, {height}x{width}", after))
        yield Tile(f"{sample.image.name}  {sample.origin}".strip(), pictures)


def _transform(description: DatasetDescription, crop: Crop) -> TrainTransform:
    """The augmentation of a training stage with this crop."""
    return TrainTransform(
        crop_size_px=crop.size_px,
        scales=crop.scales or DEFAULT_SCALES,
        image_scale=crop.image_scale,
        mean=description.mean,
        std=description.std,
        ignore_index=description.ignore_index,
    )


def sheet_png(title: str, tiles: Sequence[Tile], description: DatasetDescription) -> bytes:
    """Draws a contact sheet.

    Args:
        title: What stands on top.
        tiles: What to show; at least one.
        description: Names and colours of the classes.

    Returns:
        The PNG file.
    """
    tile_width = max(sum(picture.shape[1] + _GAP for _, picture in tile.pictures) - _GAP for tile in tiles)
    columns = min(_COLUMNS, len(tiles))
    width = _MARGIN + columns * (tile_width + _MARGIN)
    rows = [tiles[start : start + columns] for start in range(0, len(tiles), columns)]
    heights = [max(picture.shape[0] for tile in row for _, picture in tile.pictures) for row in rows]
    entries = _legend_layout(description, width)
    top = _MARGIN + _TITLE_PX + _GAP + (entries[-1][1] + 1) * _LINE + _MARGIN
    sheet = Image.new("RGB", (width, top + sum(heights) + len(rows) * (2 * _LINE + _MARGIN)), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, _MARGIN), _fit(printable(title), _font(_TITLE_PX), width - 2 * _MARGIN), _INK, _font(_TITLE_PX))
    _draw_legend(draw, entries)
    for row, height in zip(rows, heights, strict=True):
        for column, tile in enumerate(row):
            _draw_tile(sheet, draw, tile, (_MARGIN + column * (tile_width + _MARGIN), top), tile_width)
        top += height + 2 * _LINE + _MARGIN
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    return buffer.getvalue()


def sheet_html(title: str, tiles: Sequence[Tile], description: DatasetDescription) -> str:
    """Makes a contact sheet as a page; see `sheet_png`."""
    shown = [
        {"caption": tile.caption, "pictures": [(word, data_uri(picture)) for word, picture in tile.pictures]}
        for tile in tiles
    ]
    classes = list(zip(description.class_names, description.colors, strict=True))
    return render_page("browse.html.j2", title=title, tiles=shown, classes=classes)


def _legend_layout(description: DatasetDescription, width: int) -> list[_LegendEntry]:
    """Places the classes in lines: left edge in pixels, line number, name and colour."""
    named: list[tuple[str, tuple[int, int, int] | None]] = [
        (printable(name), color) for name, color in zip(description.class_names, description.colors, strict=True)
    ]
    entries: list[_LegendEntry] = []
    x, line = _MARGIN, 0
    for name, color in [*named, ("not labelled: without colour", None)]:
        shown = _fit(name, _font(_TEXT_PX), width - 2 * _MARGIN - _LINE)
        needed = _LINE + round(_font(_TEXT_PX).getlength(shown)) + _MARGIN
        if x > _MARGIN and x + needed > width:
            x, line = _MARGIN, line + 1
        entries.append((x, line, shown, color))
        x += needed
    return entries


def _draw_legend(draw: ImageDraw.ImageDraw, entries: Sequence[_LegendEntry]) -> None:
    """Draws a square of colour and a name per class."""
    for x, line, name, color in entries:
        y = _MARGIN + _TITLE_PX + 2 * _GAP + line * _LINE
        draw.rectangle((x, y, x + _TEXT_PX, y + _TEXT_PX), fill=color, outline=_SOFT)
        draw.text((x + _LINE, y - 1), name, _INK, _font(_TEXT_PX))


def _draw_tile(sheet: Image.Image, draw: ImageDraw.ImageDraw, tile: Tile, corner: tuple[int, int], width: int) -> None:
    """Pastes the pictures of an image, with what they are above and its name below."""
    x, y = corner
    bottom = y
    for word, picture in tile.pictures:
        draw.text((x, y), word, _SOFT, _font(_TEXT_PX))
        sheet.paste(Image.fromarray(np.ascontiguousarray(picture)), (x, y + _LINE))
        bottom = max(bottom, y + _LINE + picture.shape[0])
        x += picture.shape[1] + _GAP
    draw.text((corner[0], bottom + 2), _fit(printable(tile.caption), _font(_TEXT_PX), width), _INK, _font(_TEXT_PX))


def _font(size_px: int) -> ImageFont.FreeTypeFont:
    """The font that Matplotlib brings along: it knows far more letters than Pillow's own."""
    import matplotlib  # for its font alone

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size_px)


def _fit(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """Text cut to a width in pixels, with dots where something is missing."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."
