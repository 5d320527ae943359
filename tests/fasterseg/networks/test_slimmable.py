import pytest
import torch
from torch.nn import functional

from fasterseg.networks.slimmable import SlimmableConv2d, cell_channels, fusion_channels, make_divisible


def convolved(conv: SlimmableConv2d, feature: torch.Tensor, out_channels: int) -> torch.Tensor:
    conv.active_out_channels = out_channels
    output: torch.Tensor = conv(feature)
    return output


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("in_channels", "out_channels"), [(240, 256), (192, 240)])
def test_a_gradient_by_product_is_the_convolutions_own(stride: int, in_channels: int, out_channels: int) -> None:
    torch.manual_seed(0)
    conv = SlimmableConv2d(240, 256, kernel_size=3, stride=stride).double()
    feature = torch.randn(2, in_channels, 5, 6, dtype=torch.float64, requires_grad=True)
    part = conv.weight.detach()[:out_channels, :in_channels].clone().requires_grad_()
    plain = functional.conv2d(feature, part, None, stride, 1)
    outer = torch.randn_like(plain)
    own, of_part = torch.autograd.grad(plain, (feature, part), outer)

    for times in (1, 2):
        feature.grad = None
        output = convolved(conv, feature, out_channels)
        assert "GradientByProduct" in output.grad_fn.name()
        torch.testing.assert_close(output, plain)
        output.backward(outer)
        torch.testing.assert_close(feature.grad, own)
        # the second adds to the first
        torch.testing.assert_close(conv.weight.grad[:out_channels, :in_channels], times * of_part)
    assert not conv.weight.grad[out_channels:].any() and not conv.weight.grad[:, in_channels:].any()


def test_an_input_that_asks_for_none_gets_no_gradient() -> None:
    conv, feature = SlimmableConv2d(240, 256, kernel_size=3), torch.randn(2, 240, 4, 4)
    convolved(conv, feature, 256).sum().backward()
    assert feature.grad is None and conv.weight.grad is not None


def test_other_convolutions_are_left_to_the_library() -> None:
    few_pixels, many_pixels = torch.randn(1, 240, 4, 4, requires_grad=True), torch.randn(1, 240, 12, 12)
    conv = SlimmableConv2d(240, 256, kernel_size=3)
    assert "ByProduct" in convolved(conv, few_pixels, 256).grad_fn.name()
    assert "ByProduct" not in convolved(conv, few_pixels, 128).grad_fn.name()
    assert "ByProduct" not in convolved(conv, many_pixels, 256).grad_fn.name()
    with torch.autocast("cpu", torch.bfloat16):
        assert "ByProduct" not in convolved(conv, few_pixels, 256).grad_fn.name()
    conv.weight.requires_grad_(False)  # as in an architecture step
    assert "ByProduct" not in convolved(conv, few_pixels, 256).grad_fn.name()


def test_channel_rounding() -> None:
    # 8·8·4/12 = 21.3 rounds to 24; 8·1·1.2 = 9.6 would become 8, less than 90 % of it
    assert cell_channels(8, 8, 4 / 12) == 24
    assert [make_divisible(value) for value in (1, 8, 9.6, 11.9, 12, 35)] == [8, 8, 16, 16, 16, 32]
    assert fusion_channels(8, 12, 8 / 12) == 64
    assert fusion_channels(1, 1, 0.2) == 1
