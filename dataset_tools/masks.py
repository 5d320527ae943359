"""Reading, writing, checking and colouring label masks.

Masks are read by Pillow only. OpenCV expands palette PNGs to colours and then to luminance, which silently turns class
ids into other numbers; Pillow returns the stored index.
"""

import io
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from fasterseg.base.files import write_bytes
from fasterseg.base.images import open_image

READABLE_MODES = ("P", "L", "I;16", "1")
# Pillow stretches grey of 2 and 4 bits to 0..255, so that the id 1 comes as 85 or 17.
_STRETCHED = {"L;2": 85, "L;4": 17}
COLOR_MODES = ("RGB", "RGBA", "P")
_SHOWN_VALUES = 8
_MADE_OF_KEY = "made-of"

Rgb = tuple[int, int, int]


def read_mask(path: Path) -> NDArray[np.integer]:
    """Reads a one-channel mask of class ids.

    Args:
        path: A palette image, or a grey one of 1, 2, 4, 8 or 16 bits.

    Returns:
        Class ids, shape (H, W), uint8, or uint16 for 16-bit files.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file cannot be decoded, or holds colours instead of ids.
    """
    with open_image(path, "mask") as image:
        _check_mode(path, image)
        tiles = getattr(image, "tile", None)
        factor = _STRETCHED.get(str(tiles[0][3]), 1) if tiles else 1
        # Palette images give their index here: Pillow applies the palette only on convert().
        ids = np.asarray(image)
        return ids.astype(np.uint8) if image.mode == "1" else ids // np.uint8(factor) if factor > 1 else ids


def _check_mode(path: Path, image: Image.Image) -> None:
    """Refuses images whose pixels are not the class ids themselves."""
    if image.mode not in READABLE_MODES:
        raise ValueError(
            f"mask {path} has the mode {image.mode}, expected one channel of class ids "
            f"(modes {', '.join(READABLE_MODES)}); a mask of colours has to be converted to ids first"
        )


def read_color_mask(path: Path) -> NDArray[np.uint8]:
    """Reads a mask whose pixels are colours.

    Args:
        path: A colour image, or a palette image, which gives the colours of its palette.

    Returns:
        RGB, shape (H, W, 3), uint8.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file cannot be decoded, is grey, its palette does not give each index a colour of its own, or
            pixels that cannot be seen hold a colour.
    """
    with open_image(path, "mask") as image:
        if image.mode not in COLOR_MODES:
            raise ValueError(
                f"mask {path} has the mode {image.mode}, expected colours (modes {', '.join(COLOR_MODES)}); a grey "
                "mask holds class ids: convert it as one of ids"
            )
        if image.mode == "P":
            _check_palette(path, image)
        if image.mode == "RGBA":
            _check_transparency(path, np.asarray(image))
        return np.asarray(image.convert("RGB"))


def _check_transparency(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Refuses colours of fully transparent pixels, which nobody sees; black may stand there."""
    hidden = (pixels[..., 3] == 0) & (pixels[..., :3] != 0).any(axis=-1)
    if hidden.any():
        raise ValueError(
            f"mask {path}: {np.count_nonzero(hidden)} fully transparent pixels hold a colour other than black; save it "
            "without transparency, with the colour that is meant there"
        )


def _check_palette(path: Path, image: Image.Image) -> None:
    """Refuses a palette image in which two indices would become one colour: they are different classes."""
    palette = image.getpalette("RGB") or []
    used = np.unique(np.asarray(image)).tolist()
    beyond = [index for index in used if 3 * index >= len(palette)]
    by_color: dict[Rgb, list[int]] = {}
    for index in used:
        if index not in beyond:
            red, green, blue = palette[3 * index : 3 * index + 3]
            by_color.setdefault((red, green, blue), []).append(index)
    twins = [
        f"the indices {_listed(list(map(str, same)))} the colour {color}"
        for color, same in by_color.items()
        if same[1:]
    ]
    problems = [f"no colour for the indices {_listed(list(map(str, beyond)))}, which are used"] if beyond else []
    if problems or twins:
        raise ValueError(
            f"mask {path}: its palette of {len(palette) // 3} colours has {' and gives '.join([*problems, *twins])}; "
            "where the indices are the class ids, convert it as a mask of ids (`--encoding index`)"
        )


def map_ids(mask: NDArray[np.integer], train_ids: Mapping[int, int], source: Path | str) -> NDArray[np.uint8]:
    """Replaces the ids of a source by train ids.

    Args:
        mask: Ids, shape (H, W), unsigned.
        train_ids: Train id, or the ignore index, of every id that may occur.
        source: What the error names.

    Returns:
        Train ids, shape (H, W), uint8.

    Raises:
        ValueError: The mask holds an id that the table lacks; names the file, the ids and their pixel counts.
    """
    counts = np.bincount(mask.reshape(-1))
    found = np.flatnonzero(counts).tolist()
    unknown = [f"{value} ({counts[value]} pixels)" for value in found if value not in train_ids]
    if unknown:
        raise ValueError(f"mask {source} holds unknown values: {_listed(unknown)}; known are {sorted(train_ids)}")
    table = np.zeros(len(counts), np.uint8)
    table[found] = [train_ids[value] for value in found]
    return np.asarray(table[mask])


def map_colors(pixels: NDArray[np.uint8], train_ids: Mapping[Rgb, int], source: Path | str) -> NDArray[np.uint8]:
    """Replaces the colours of a source by train ids.

    Args:
        pixels: RGB, shape (H, W, 3).
        train_ids: Train id, or the ignore index, of every colour that may occur.
        source: What the error names.

    Returns:
        Train ids, shape (H, W), uint8.

    Raises:
        ValueError: The mask holds a colour that the table lacks; names the file, the colours and their pixel counts.
    """
    colors = sorted(train_ids)
    known = color_codes(np.array([colors], np.uint8))[0]
    codes = color_codes(pixels)
    positions = np.minimum(np.searchsorted(known, codes), len(known) - 1)
    wrong = codes[known[positions] != codes]
    if wrong.size:
        values, counts = np.unique(wrong, return_counts=True)
        unknown = [
            f"({value >> 16}, {value >> 8 & 255}, {value & 255}) ({count} pixels)"
            for value, count in sorted(zip(values.tolist(), counts.tolist(), strict=True), key=lambda pair: -pair[1])
        ]
        raise ValueError(
            f"mask {source} holds unknown colours: {_listed(unknown)}; known are {sorted(train_ids)}. Colours in "
            "between come from resizing or from JPEG: a mask must keep its exact colours"
        )
    return np.asarray(np.array([train_ids[color] for color in colors], np.uint8)[positions])


def color_codes(pixels: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Colours as one number each, the first channel highest, so that sorted colours give sorted numbers.

    Args:
        pixels: Shape (H, W, 3).

    Returns:
        65536 times the first channel, plus 256 times the second, plus the third; shape (H, W).
    """
    codes: NDArray[np.int32] = pixels[..., 0].astype(np.int32) << 16
    codes |= pixels[..., 1].astype(np.int32) << 8
    codes |= pixels[..., 2]
    return codes


def _listed(found: list[str]) -> str:
    """The first few of what was found, and how many more there are."""
    more = f" and {len(found) - _SHOWN_VALUES} more" if len(found) > _SHOWN_VALUES else ""
    return ", ".join(found[:_SHOWN_VALUES]) + more


def distinct_colors(count: int, taken: Iterable[Rgb] = ()) -> tuple[Rgb, ...]:
    """Colours for classes that have none, by the rule of the PASCAL VOC development kit.

    The bits of the number, three at a time, go to the highest bits of red, green and blue that are still free, so that
    small numbers differ most. The first colour is black.

    Args:
        count: How many colours, at most 256 with those taken.
        taken: Colours to leave out.
    """
    left_out = set(taken)
    colors = [_voc_color(number) for number in range(256)]
    return tuple(color for color in colors if color not in left_out)[:count]


def _voc_color(number: int) -> Rgb:
    """The colour of one index in PASCAL VOC's colour map."""
    channels = [0, 0, 0]
    for position in range(8):
        for channel in range(3):
            channels[channel] |= (number >> channel & 1) << 7 - position
        number >>= 3
    return channels[0], channels[1], channels[2]


def write_mask(path: Path, mask: NDArray[np.integer], *, made_of: str = "") -> None:
    """Writes class ids as an 8-bit grey PNG.

    Args:
        path: The file, ending in .png.
        mask: Class ids in 0..255, shape (H, W).
        made_of: A note of what it is made of, which `read_made_of` gives back; none when empty.

    Raises:
        ValueError: The array is not (H, W), or an id does not fit 8 bits.
    """
    if mask.ndim != 2 or mask.size == 0:
        raise ValueError(f"mask for {path} has the shape {mask.shape}, expected (H, W)")
    low, high = int(mask.min()), int(mask.max())
    if low < 0 or high > 255:
        raise ValueError(f"mask for {path} holds ids {low}..{high}, expected 0..255")
    write_bytes(path, encode_mask(mask.astype(np.uint8), made_of=made_of))


def encode_mask(mask: NDArray[np.uint8], *, made_of: str = "") -> bytes:
    """Class ids, shape (H, W), as the bytes of an 8-bit grey PNG; see `write_mask`."""
    buffer = io.BytesIO()
    note = PngImagePlugin.PngInfo()
    if made_of:
        note.add_text(_MADE_OF_KEY, made_of)
    Image.fromarray(mask).save(buffer, format="PNG", compress_level=3, pnginfo=note)
    return buffer.getvalue()


def read_made_of(path: Path) -> str:
    """The note of what a mask is made of; empty where it has none.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: It is no image, or is damaged: the checksum of every part is compared.
    """
    with open_image(path, "mask") as image:
        made_of = str(image.info.get(_MADE_OF_KEY, ""))
        image.verify()
    return made_of


def check_mask_values(mask: NDArray[np.integer], *, num_classes: int, ignore_index: int, source: str) -> None:
    """Refuses a mask with values that are neither a class nor ignored.

    Args:
        mask: Class ids, shape (H, W).
        num_classes: Ids 0..num_classes-1 are allowed.
        ignore_index: The one further value that is allowed.
        source: What the error names: the file, and the list line it stands in.

    Raises:
        ValueError: Names the file, each wrong value with its pixel count, and what is allowed.
    """
    wrong = (mask >= num_classes) & (mask != ignore_index)
    if not wrong.any():
        return
    values, counts = np.unique(mask[wrong], return_counts=True)
    listed = _listed([f"{value} ({count} pixels)" for value, count in zip(values, counts, strict=True)])
    raise ValueError(
        f"{source} holds values outside the classes: {listed}; allowed are 0..{num_classes - 1} and the "
        f"ignore index {ignore_index}; map the mask to train ids, or add the classes to dataset.yaml"
    )
