import pytest
import torch

from fasterseg.networks.resizing import Resize, halved, resize_bilinear, strided


@pytest.mark.parametrize(("size", "stride", "expected"), [((1024, 2048), 32, (32, 64)), ((67, 101), 8, (9, 13))])
def test_sizes_round_up_at_every_halving(size: tuple[int, int], stride: int, expected: tuple[int, int]) -> None:
    assert strided(size, stride) == expected
    assert halved((5, 4)) == (3, 2)


def test_corners_stay_where_they_are() -> None:
    feature = torch.tensor([[[[0.0, 1.0], [2.0, 3.0]]]])
    expected = torch.tensor([[0.0, 0.5, 1.0], [1.0, 1.5, 2.0], [2.0, 2.5, 3.0]])
    torch.testing.assert_close(Resize((3, 3))(feature)[0, 0], expected)


def test_a_map_that_fits_is_returned_as_it_is() -> None:
    feature = torch.randn(1, 2, 3, 4)
    assert resize_bilinear(feature, (3, 4)) is feature
