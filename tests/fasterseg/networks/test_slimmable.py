import pytest
import torch
from torch.nn import functional

from fasterseg.networks.slimmable import SlimmableConv2d


@pytest.mark.parametrize("in_place", [False, True], ids=["plain", "cpu"])
@pytest.mark.parametrize(("kernel_size", "stride"), [(3, 1), (3, 2), (1, 1), (1, 2)])
def test_a_narrow_convolution_has_the_gradient_of_a_slice(kernel_size: int, stride: int, in_place: bool) -> None:
    torch.manual_seed(0)
    conv = SlimmableConv2d(8, 16, kernel_size=kernel_size, stride=stride, in_place=in_place)
    conv.active_out_channels = 8
    feature = torch.randn(2, 4, 6, 7)
    for _ in range(2):  # the second gradient is added to the first
        conv(feature).square().sum().backward()
    sliced = conv.weight.detach().clone().requires_grad_()
    output = functional.conv2d(feature, sliced[:8, :4], None, stride, kernel_size // 2)
    torch.testing.assert_close(conv(feature), output)
    (2 * output.square().sum()).backward()
    torch.testing.assert_close(conv.weight.grad, sliced.grad)


@pytest.mark.parametrize("in_place", [False, True], ids=["plain", "cpu"])
def test_a_frozen_narrow_convolution_passes_the_gradient_on(in_place: bool) -> None:
    conv = SlimmableConv2d(8, 16, kernel_size=1, in_place=in_place)
    conv.active_out_channels = 4
    conv.weight.requires_grad_(False)
    feature = torch.randn(1, 8, 4, 4, requires_grad=True)
    conv(feature).sum().backward()
    assert feature.grad is not None
    assert conv.weight.grad is None
