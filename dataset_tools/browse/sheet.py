"""Contact sheets as files: one PNG picture, or one HTML page that stands alone."""

import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dataset_tools.browse.tiles import Tile
from dataset_tools.description import DatasetDescription
from dataset_tools.pages import render_page
from dataset_tools.pictures import data_uri
from fasterseg.base.text import printable

_COLUMNS = 2
_MARGIN = 18
_GAP = 6
_TEXT_PX = 14
_TITLE_PX = 20
_LINE = 22
_INK, _SOFT, _PAPER = (26, 34, 43), (91, 102, 115), (255, 255, 255)


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


_LegendEntry = tuple[int, int, str, tuple[int, int, int] | None]


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
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size_px)


def _fit(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """Text cut to a width in pixels, with dots where something is missing."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."
