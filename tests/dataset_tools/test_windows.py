import cv2
import numpy as np
import pytest

from dataset_tools.windows import Window, pad, resize_image_window, resize_label_window, scaled_size


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
        found = resize_image_window(image, new, window)
        # OpenCV rounds its fixed-point weights: where the ratio of the sizes is no short fraction, by one level at most
        assert np.abs(found.astype(int) - whole[place]).max() <= (1 if factor in (0.33, 1.1) or size[0] % 2 else 0)
        assert np.array_equal(resize_label_window(label, new, window), whole_label[place])


def test_only_the_part_under_the_window_is_scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    real = cv2.resize

    def spy(part: np.ndarray, *arguments: object, **options: object) -> np.ndarray:
        sizes.append(part.shape)
        return real(part, *arguments, **options)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(cv2, "resize", spy)
    resize_image_window(picture(400, 800), (300, 600), Window(90, 90, 30, 60))
    assert sizes == [(48, 88, 3)]


def test_inside_and_padding() -> None:
    window = Window(-2, 3, 6, 4)
    inside = window.inside((3, 5))
    assert inside == Window(0, 3, 3, 2)
    padded = pad(np.arange(6, dtype=np.uint8).reshape(3, 2), inside, window, 9)
    assert padded.tolist() == [[9] * 4, [9] * 4, [0, 1, 9, 9], [2, 3, 9, 9], [4, 5, 9, 9], [9] * 4]
    part = np.zeros((6, 4), np.uint8)
    assert pad(part, window, window, 9) is part
