import cv2
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dataset_tools.config import check_crop_size
from dataset_tools.transforms import (
    EvalTransform,
    TrainTransform,
    Window,
    pad,
    resize_image,
    resize_label,
    scaled_size,
)


def pair(height: int = 64, width: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """An image whose first two channels are its row and column, and the column as label."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, rows], axis=2).astype(np.uint8), columns.astype(np.uint8)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((500, 512), "crop_size_px height 500 is not divisible by 32; use 480 or 512"),
        ((512, 33), "crop_size_px width 33 is not divisible by 32; use 32 or 64"),
        ((16, 64), "crop_size_px height 16 is less than 32; use 32 or more"),
    ],
)
def test_crop_size(size: tuple[int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_crop_size(size)
    with pytest.raises(ValueError, match=message):
        TrainTransform(size)


@pytest.mark.parametrize(
    "wrong",
    [{"scales": ()}, {"scales": (0.0,)}, {"flip_probability": 1.5}, {"image_scale": 0.0}, {"min_valid_fraction": -1.0}],
)
def test_fields_are_checked(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TrainTransform((32, 32), **wrong)  # type: ignore[arg-type]


def test_resize_label_takes_the_nearest_centre() -> None:
    label = np.arange(6, dtype=np.uint8)[None].repeat(2, axis=0)
    assert resize_label(label, (2, 2))[0].tolist() == [1, 4]
    assert resize_label(label, (2, 12))[0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert resize_label(label, (1, 3)).shape == (1, 3)


def test_evaluation_scales_image_and_label() -> None:
    image, label = EvalTransform(image_scale=0.5).augment(*pair(40, 60), np.random.default_rng(0))
    assert image.shape == (20, 30, 3)
    assert label.shape == (20, 30)


def test_image_and_label_stay_together() -> None:
    transform = TrainTransform((32, 64), scales=(1.0,))
    for seed in range(10):
        image, label = transform.augment(*pair(), np.random.default_rng(seed))
        assert image.shape == (32, 64, 3)
        assert np.array_equal(image[..., 1], label)


def test_the_crops_of_a_seed_are_those_recorded() -> None:
    """Row and column of the source at two corners of the crop: scale, place and flip of five seeds."""
    recorded = [
        ((48, 118), (111, 23)), ((22, 26), (85, 121)), ((14, 12), (77, 107)), ((13, 185), (63, 109)),
        ((23, 105), (86, 10)),
    ]  # fmt: skip
    for number, corners in enumerate(recorded):
        image, label = TrainTransform((64, 96)).augment(*pair(128, 192), np.random.default_rng((3, 2, number)))
        assert (tuple(image[0, 0, :2]), tuple(image[-1, -1, :2])) == corners
        assert (label[0, 0], label[-1, -1]) == (corners[0][1], corners[1][1])


def test_flip_probability() -> None:
    plain, flipped = (
        TrainTransform((64, 96), scales=(1.0,), flip_probability=probability).augment(*pair(), np.random.default_rng(0))
        for probability in (0.0, 1.0)
    )
    assert np.array_equal(plain[0], flipped[0][:, ::-1])
    assert np.array_equal(plain[1], flipped[1][:, ::-1])


def test_scale_is_drawn_from_the_list() -> None:
    steps = set()
    for seed in range(30):
        transform = TrainTransform((32, 32), scales=(0.5, 2.0), flip_probability=0.0)
        _, label = transform.augment(*pair(), np.random.default_rng(seed))
        steps.add(int(label[0, 20]) - int(label[0, 0]))
    assert steps == {10, 40}


def test_small_images_are_padded() -> None:
    transform = TrainTransform((32, 64), scales=(1.0,), mean=(0.4, 0.2, 0.6))
    corners = set()
    for seed in range(5):
        image, label = transform.augment(*pair(20, 20), np.random.default_rng(seed))
        inside = label != 255
        assert int(inside.sum()) == 400
        assert (image[~inside] == (102, 51, 153)).all()
        corners.add(tuple(np.argwhere(inside)[0].tolist()))
    assert len(corners) > 1


def test_crops_without_labels_are_drawn_again() -> None:
    image, _ = pair(256, 256)
    label = np.full((256, 256), 255, np.uint8)
    label[:64, :128] = 1
    generator = np.random.default_rng(0)
    strict = TrainTransform((64, 64), scales=(1.0,), min_valid_fraction=0.05)
    loose = TrainTransform((64, 64), scales=(1.0,), min_valid_fraction=0.0)
    found = {
        transform: sum(bool((transform.augment(image, label, generator)[1] != 255).any()) for _ in range(60))
        for transform in (strict, loose)
    }
    assert found[strict] > found[loose]
    # Nothing to be found is no reason to fail.
    empty = np.full_like(label, 255)
    assert (strict.augment(image, empty, generator)[1] == 255).all()


def picture(height: int, width: int) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 1.0)


def windows(size: tuple[int, int], count: int) -> list[Window]:
    """Random windows inside an image, among them the corners and the whole."""
    generator = np.random.default_rng(1)
    found = [Window(0, 0, *size), Window(0, 0, 1, 1), Window(size[0] - 1, size[1] - 1, 1, 1)]
    for _ in range(count):
        top, left = (int(generator.integers(side)) for side in size)
        found.append(
            Window(
                top, left, int(generator.integers(1, size[0] - top + 1)), int(generator.integers(1, size[1] - left + 1))
            )
        )
    return found


@pytest.mark.parametrize("size", [(64, 96), (90, 120), (61, 97)])
@pytest.mark.parametrize("factor", [0.25, 0.375, 0.5, 0.625, 0.75, 1.0, 1.1, 1.25, 1.75, 2.0, 0.33])
def test_a_window_of_the_scaled_image(size: tuple[int, int], factor: float) -> None:
    image, label = picture(*size), np.random.default_rng(2).integers(0, 20, size).astype(np.uint8)
    new = scaled_size(size, factor)
    whole = cv2.resize(image, (new[1], new[0]), interpolation=cv2.INTER_LINEAR) if new != size else image
    # the plain rule of the nearest centre, written once more
    rows = [int((row + 0.5) * size[0] / new[0]) for row in range(new[0])]
    columns = [int((column + 0.5) * size[1] / new[1]) for column in range(new[1])]
    whole_label = label[rows][:, columns]
    for window in windows(new, 25):
        place = np.s_[window.top : window.top + window.height, window.left : window.left + window.width]
        found = resize_image(image, new, window)
        # OpenCV rounds its fixed-point weights: where the ratio of the sizes is no short fraction, by one level at most
        assert np.abs(found.astype(int) - whole[place]).max() <= (1 if factor in (0.33, 1.1) or size[0] % 2 else 0)
        assert np.array_equal(resize_label(label, new, window), whole_label[place])


def test_only_the_part_under_the_window_is_scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    real = cv2.resize

    def spy(part: np.ndarray, *arguments: object, **options: object) -> np.ndarray:
        sizes.append(part.shape)
        return real(part, *arguments, **options)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(cv2, "resize", spy)
    resize_image(picture(400, 800), (300, 600), Window(90, 90, 30, 60))
    assert sizes == [(48, 88, 3)]


def test_inside_and_padding() -> None:
    window = Window(-2, 3, 6, 4)
    inside = window.inside((3, 5))
    assert inside == Window(0, 3, 3, 2)
    padded = pad(np.arange(6, dtype=np.uint8).reshape(3, 2), inside, window, 9)
    assert padded.tolist() == [[9] * 4, [9] * 4, [0, 1, 9, 9], [2, 3, 9, 9], [4, 5, 9, 9], [9] * 4]
    part = np.zeros((6, 4), np.uint8)
    assert pad(part, window, window, 9) is part


SIDES = st.integers(1, 90)
FACTORS = st.floats(0.2, 3.0)


@given(
    size=st.tuples(SIDES, SIDES),
    factor=FACTORS,
    fractions=st.tuples(*[st.floats(0, 1)] * 4),
    seed=st.integers(0, 1000),
)
def test_a_window_is_a_part_of_the_whole(
    size: tuple[int, int], factor: float, fractions: tuple[float, ...], seed: int
) -> None:
    """Of any image at any scale, any window of the resized label and image is what the whole one shows there."""
    new = scaled_size(size, factor)
    top, left = (int(part * (side - 1)) for part, side in zip(fractions[:2], new, strict=True))
    height, width = (
        1 + int(part * (side - start - 1)) for part, side, start in zip(fractions[2:], new, (top, left), strict=True)
    )
    window = Window(top, left, height, width)
    label = np.random.default_rng(seed).integers(0, 256, size).astype(np.uint8)
    assert np.array_equal(resize_label(label, new, window), resize_label(label, new)[window.place])
    image = picture(*size)
    # OpenCV rounds its fixed-point weights, by one level at most
    difference = resize_image(image, new, window).astype(int) - resize_image(image, new)[window.place]
    assert np.abs(difference).max() <= 1


@given(window=st.builds(Window, st.integers(-40, 40), st.integers(-40, 40), SIDES, SIDES), size=st.tuples(SIDES, SIDES))
def test_padding_keeps_every_pixel_in_its_place(window: Window, size: tuple[int, int]) -> None:
    inside = window.inside(size)
    assume(min(inside.height, inside.width) >= 1)
    numbers = np.arange(1, size[0] * size[1] + 1, dtype=np.int64).reshape(size)
    padded = pad(numbers[inside.place], inside, window, 0)
    assert padded.shape == (window.height, window.width)
    for y in range(window.height):
        for x in range(window.width):
            row, column = window.top + y, window.left + x
            on_image = 0 <= row < size[0] and 0 <= column < size[1]
            assert padded[y, x] == (numbers[row, column] if on_image else 0)


@given(
    size=st.tuples(st.integers(20, 90), st.integers(20, 90)),
    crop=st.tuples(st.sampled_from((32, 64)), st.sampled_from((32, 64, 96))),
    factor=FACTORS,
    flip=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_markers_of_image_and_label_stay_together(
    size: tuple[int, int], crop: tuple[int, int], factor: float, flip: bool, seed: int
) -> None:
    """A bright square is a class: whatever is cut, scaled, flipped or padded, its pixels carry its id."""
    generator = np.random.default_rng(seed)
    image, label = np.zeros((*size, 3), np.uint8), np.zeros(size, np.uint8)
    top, left = (int(generator.integers(side - 8)) for side in size)
    image[top : top + 9, left : left + 9], label[top : top + 9, left : left + 9] = 250, 1
    transform = TrainTransform(crop, scales=(factor,), flip_probability=float(flip), mean=(0.4, 0.4, 0.4))
    shown, ids = transform.augment(image, label, generator)
    assert shown.shape == (*crop, 3)
    assert ids.shape == crop
    assert (shown[ids == 255] == 102).all()
    # At the border of the square, bilinear and nearest pixels may differ by one.
    bright = (shown[..., 0] > 125) & (ids != 255)
    square, kernel = (ids == 1).astype(np.uint8), np.ones((3, 3), np.uint8)
    assert bright[cv2.erode(square, kernel, borderValue=0) == 1].all()
    assert not bright[cv2.dilate(square, kernel) == 0].any()
