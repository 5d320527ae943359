import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from dataset_tools.masks import (
    check_mask_values,
    distinct_colors,
    map_colors,
    map_ids,
    read_color_mask,
    read_made_of,
    read_mask,
    write_mask,
)

IDS = np.array([[0, 1, 2], [11, 200, 255]], np.uint8)


def test_round_trip(tmp_path: Path) -> None:
    write_mask(tmp_path / "m.png", IDS.astype(np.int64))
    assert np.array_equal(read_mask(tmp_path / "m.png"), IDS)
    with Image.open(tmp_path / "m.png") as image:
        assert image.mode == "L"


def test_palette_gives_indices_where_opencv_does_not(tmp_path: Path) -> None:
    path = tmp_path / "palette.png"
    image = Image.fromarray(IDS)
    image.putpalette(np.random.default_rng(0).integers(0, 255, 768).astype(np.uint8).tobytes())
    image.save(path)
    with Image.open(path) as stored:
        assert stored.mode == "P"
    assert np.array_equal(read_mask(path), IDS)
    # The trap that this module exists for; should OpenCV lose it, this line says so.
    assert not np.array_equal(np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)), IDS)


def test_sixteen_bit(tmp_path: Path) -> None:
    wide = np.array([[7, 300], [65535, 0]], np.uint16)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    assert np.array_equal(read_mask(tmp_path / "wide.png"), wide)


def test_colours_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "rgb.png")
    with pytest.raises(ValueError, match=r"rgb\.png has the mode RGB"):
        read_mask(tmp_path / "rgb.png")


def chunk(kind: bytes, data: bytes) -> bytes:
    """A part of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize(
    ("bits", "rows", "ids"),
    [
        (1, [0, 0b01000000, 0, 0b10000000], [[0, 1], [1, 0]]),
        (2, [0, 0b00010000, 0, 0b10110000], [[0, 1], [2, 3]]),
        (4, [0, 0x01, 0, 0x2F], [[0, 1], [2, 15]]),
    ],
)
def test_grey_of_few_bits_gives_its_ids(tmp_path: Path, bits: int, rows: list[int], ids: list[list[int]]) -> None:
    # Pillow would read ids 0..3 of 4 bits as 0, 17, 34, 51.
    header = struct.pack(">IIBBBBB", 2, 2, bits, 0, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bytes(rows))), chunk(b"IEND", b""))
    (tmp_path / "few.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    mask = read_mask(tmp_path / "few.png")
    assert (mask.dtype, mask.tolist()) == (np.uint8, ids)


@pytest.mark.parametrize("hidden", [(255, 0, 0, 0), (0, 0, 1, 0), (9, 9, 9, 0)])
def test_colours_that_nobody_sees_are_refused(tmp_path: Path, hidden: tuple[int, int, int, int]) -> None:
    seen = [[(0, 0, 0, 0), (255, 0, 0, 255)], [(9, 9, 9, 1), (0, 0, 0, 255)]]
    Image.fromarray(np.array(seen, np.uint8)).save(tmp_path / "a.png")
    assert read_color_mask(tmp_path / "a.png").tolist() == [[[0, 0, 0], [255, 0, 0]], [[9, 9, 9], [0, 0, 0]]]
    seen[0][0] = hidden
    Image.fromarray(np.array(seen, np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png: 1 fully transparent pixels hold a colour other than black"):
        read_color_mask(tmp_path / "a.png")


@pytest.mark.parametrize("content", [b"", b"not an image"])
def test_damage_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"mask cannot be read: .*bad\.png"):
        read_mask(tmp_path / "bad.png")


def test_cut_off_mask_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.png"
    write_mask(path, np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"cut\.png"):
        read_mask(path)


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.png"):
        read_mask(tmp_path / "none.png")


@pytest.mark.parametrize("mask", [np.full((2, 2), 256), np.full((2, 2), -1), np.zeros((2, 2, 3), np.uint8)])
def test_write_refuses_what_does_not_fit(tmp_path: Path, mask: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected"):
        write_mask(tmp_path / "m.png", mask)
    assert not (tmp_path / "m.png").exists()


def test_values_outside_the_classes_are_counted() -> None:
    mask = np.array([[0, 1, 255], [9, 9, 12]], np.uint8)
    with pytest.raises(ValueError, match=r"a\.png .* 9 \(2 pixels\), 12 \(1 pixels\); allowed are 0\.\.2 .* 255"):
        check_mask_values(mask, num_classes=3, ignore_index=255, source="mask a.png")
    check_mask_values(mask, num_classes=13, ignore_index=255, source="mask a.png")


def test_map_ids() -> None:
    mask = np.array([[0, 3], [3, 700]], np.uint16)
    assert map_ids(mask, {0: 1, 3: 0, 700: 255}, "m.png").tolist() == [[1, 0], [0, 255]]


def test_unknown_ids_are_counted() -> None:
    with pytest.raises(
        ValueError, match=r"m\.png holds unknown values: 3 \(2 pixels\), 9 \(1 pixels\); known are \[0\]"
    ):
        map_ids(np.array([[0, 3], [3, 9]], np.uint8), {0: 0}, "m.png")


def test_map_colors() -> None:
    pixels = np.array([[(0, 0, 0), (255, 255, 255)], [(1, 2, 3), (3, 2, 1)]], np.uint8)
    known = {(0, 0, 0): 255, (255, 255, 255): 0, (1, 2, 3): 1, (3, 2, 1): 2}
    assert map_colors(pixels, known, "m.png").tolist() == [[255, 0], [1, 2]]


def test_unknown_colours_are_counted_and_the_list_is_cut() -> None:
    pixels = np.array([[(n, 0, 0) for n in range(20)], [(7, 0, 0)] * 20], np.uint8)
    with pytest.raises(ValueError, match=r"colours: \(7, 0, 0\) \(21 pixels\), .* and 11 more; known are"):
        map_colors(pixels, {(0, 0, 0): 0}, "m.png")


def test_ids_to_colours_and_back(tmp_path: Path) -> None:
    ids = np.random.default_rng(0).integers(0, 30, (20, 30))
    table = distinct_colors(30)
    Image.fromarray(np.array(table, np.uint8)[ids]).save(tmp_path / "c.png")
    back = map_colors(read_color_mask(tmp_path / "c.png"), {color: n for n, color in enumerate(table)}, "c.png")
    assert np.array_equal(back, ids)


def test_colour_masks_may_be_palettes_but_not_grey(tmp_path: Path) -> None:
    palette = Image.fromarray(np.array([[0, 1]], np.uint8))
    palette.putpalette([9, 8, 7, 6, 5, 4])
    palette.save(tmp_path / "p.png")
    assert read_color_mask(tmp_path / "p.png").tolist() == [[[9, 8, 7], [6, 5, 4]]]
    write_mask(tmp_path / "g.png", IDS)
    with pytest.raises(ValueError, match=r"g\.png has the mode L, expected colours"):
        read_color_mask(tmp_path / "g.png")
    with pytest.raises(FileNotFoundError, match=r"none\.png"):
        read_color_mask(tmp_path / "none.png")


def test_colours_of_vocs_rule() -> None:
    # The first of PASCAL VOC's colour map, and its border at 255.
    assert distinct_colors(4) == ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0))
    assert distinct_colors(256)[255] == (224, 224, 192)
    assert distinct_colors(2, [(0, 0, 0)]) == ((128, 0, 0), (0, 128, 0))


def palette_png(path: Path, ids: list[list[int]], palette: list[int]) -> Path:
    """A palette PNG of 8 bits whose palette has just these values; Pillow itself would cut the indices to it."""
    image = Image.fromarray(np.array(ids, np.uint8), "P")
    image.putpalette(list(range(256)) * 3)
    image.save(path)
    data = path.read_bytes()
    start = data.index(b"PLTE") - 4
    path.write_bytes(data[:start] + chunk(b"PLTE", bytes(palette)) + data[start + 12 + 768 :])
    return path


@pytest.mark.parametrize(
    ("palette", "said"),
    [
        ([0, 0, 0], r"palette of 1 colours has no colour for the indices 1, 3, which are used"),
        ([0, 0, 0, 9, 9, 9], r"no colour for the indices 3"),
        ([0] * 768, r"palette of 256 colours has the indices 0, 1, 3 the colour \(0, 0, 0\)"),
        ([7, 7, 7, 9, 0, 0, 5, 5, 5, 9, 0, 0], r"the indices 1, 3 the colour \(9, 0, 0\)"),
    ],
)
def test_a_palette_that_does_not_tell_its_indices_apart_is_refused(
    tmp_path: Path, palette: list[int], said: str
) -> None:
    path = palette_png(tmp_path / "a.png", [[0, 1], [1, 3]], palette)
    with pytest.raises(ValueError, match=said):
        read_color_mask(path)
    assert read_mask(path).tolist() == [[0, 1], [1, 3]]


def test_unused_colours_may_be_alike(tmp_path: Path) -> None:
    path = palette_png(tmp_path / "a.png", [[0, 2]], [0, 0, 0, 9, 9, 9, 9, 9, 9])
    assert read_color_mask(path).tolist() == [[[0, 0, 0], [9, 9, 9]]]


def test_what_a_mask_is_made_of_is_noted_in_it(tmp_path: Path) -> None:
    write_mask(tmp_path / "a.png", np.zeros((2, 3), np.uint8), made_of="abc")
    write_mask(tmp_path / "b.png", np.zeros((2, 3), np.uint8))
    assert (read_made_of(tmp_path / "a.png"), read_made_of(tmp_path / "b.png")) == ("abc", "")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:-20])
    with pytest.raises(ValueError, match="mask cannot be read"):
        read_made_of(tmp_path / "a.png")
