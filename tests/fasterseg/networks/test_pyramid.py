import pytest
import torch
from torch import nn

from fasterseg.networks.pyramid import PYRAMID_BINS, PyramidPooling, PyramidSum, average_bins


def test_the_sum_of_an_even_map_is_itself_and_its_averages() -> None:
    feature = torch.full((1, 4, 6, 12), 3.0)
    torch.testing.assert_close(PyramidSum()(feature), torch.full((1, 4, 6, 12), 15.0))


def test_pooling_concatenates_the_map_first() -> None:
    pooling = PyramidPooling(8, 4).eval()
    feature = torch.randn(2, 8, 9, 13)
    with torch.no_grad():
        output = pooling(feature)
    assert output.shape == (2, 8 + len(PYRAMID_BINS) * 4, 9, 13)
    assert torch.equal(output[:, :8], feature)
    # one bin: the same value everywhere
    assert output[:, 8:12].flatten(2).std(dim=2).max() < 1e-6


class _Average(nn.Module):
    def __init__(self, bins: int) -> None:
        super().__init__()
        self.bins = bins

    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        return average_bins(feature, self.bins)


@pytest.mark.parametrize("size", [(12, 18), (13, 17), (4, 5)])
@pytest.mark.parametrize("bins", PYRAMID_BINS)
def test_the_exported_average_is_the_native_one(size: tuple[int, int], bins: int) -> None:
    feature = torch.randn(2, 3, *size)
    program = torch.export.export(_Average(bins), (feature,), strict=False)
    assert "adaptive" not in program.graph_module.code
    torch.testing.assert_close(program.module()(feature), average_bins(feature, bins))
