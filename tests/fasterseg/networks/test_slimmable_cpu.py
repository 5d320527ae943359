"""Gradients that are added to `weight.grad` in place, and where they go through autograd instead."""

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional

from fasterseg.networks.slimmable import SlimmableConv2d

# channels of the weight, of input and output, and the side of the map; the second gradient is a matrix product
CASES = [(8, 16, 4, 8, 12), (240, 256, 192, 240, 5)]


def convolved(conv: SlimmableConv2d, feature: torch.Tensor, out_channels: int) -> torch.Tensor:
    conv.active_out_channels = out_channels
    output: torch.Tensor = conv(feature)
    return output


@pytest.fixture(params=CASES, ids=["slice", "product"])
def case(request: pytest.FixtureRequest) -> tuple[SlimmableConv2d, torch.Tensor, torch.Tensor, torch.Tensor]:
    """A narrow convolution, its input, and the gradients of both by autograd."""
    most_in, most_out, in_channels, out_channels, size = request.param
    torch.manual_seed(0)
    conv = SlimmableConv2d(most_in, most_out, kernel_size=3).double()
    conv.active_out_channels = out_channels
    feature = torch.randn(2, in_channels, size, size, dtype=torch.float64, requires_grad=True)
    loss = functional.conv2d(feature, conv.weight[:out_channels, :in_channels], padding=1).square().sum()
    return conv, feature, *torch.autograd.grad(loss, (conv.weight, feature))


Given = tuple[SlimmableConv2d, torch.Tensor, torch.Tensor, torch.Tensor]


def test_backward_adds_in_place(case: Given) -> None:
    conv, feature, of_weight, of_feature = case
    conv(feature).square().sum().backward()
    memory = conv.weight.grad.data_ptr()
    conv(feature).square().sum().backward()
    assert conv.weight.grad.data_ptr() == memory
    torch.testing.assert_close(conv.weight.grad, 2 * of_weight)
    torch.testing.assert_close(feature.grad, 2 * of_feature)


def test_autograd_grad_returns_the_gradient_and_leaves_the_weights_own(case: Given) -> None:
    conv, feature, of_weight, of_feature = case
    found = torch.autograd.grad(conv(feature).square().sum(), (conv.weight, feature))
    torch.testing.assert_close(found, (of_weight, of_feature))
    (alone,) = torch.autograd.grad(conv(feature).square().sum(), feature)
    torch.testing.assert_close(alone, of_feature)
    assert conv.weight.grad is None


def test_backward_to_other_inputs_leaves_the_weights_gradient(case: Given) -> None:
    conv, feature, of_weight, of_feature = case
    conv(feature).square().sum().backward(inputs=[feature])
    torch.testing.assert_close(feature.grad, of_feature)
    assert conv.weight.grad is None
    conv(feature).square().sum().backward(inputs=[conv.weight])
    torch.testing.assert_close(conv.weight.grad, of_weight)


@pytest.mark.parametrize("register", ["register_hook", "register_post_accumulate_grad_hook"])
def test_hooks_on_the_weight_see_the_gradient(case: Given, register: str) -> None:
    conv, feature, of_weight, _ = case
    seen: list[torch.Tensor] = []

    def hook(value: torch.Tensor) -> None:
        seen.append((value if value.grad is None else value.grad).detach().clone())

    add: Callable[[Callable[[torch.Tensor], None]], object] = getattr(conv.weight, register)
    output = conv(feature)
    add(hook)  # after the forward pass, as before it
    output.square().sum().backward()
    assert len(seen) == 1
    torch.testing.assert_close(seen[0], of_weight)
    torch.testing.assert_close(conv.weight.grad, of_weight)


def test_a_compiled_convolution_is_the_plain_one(case: Given) -> None:
    conv, feature, of_weight, of_feature = case
    output = torch.compile(conv, backend="eager")(feature)
    assert "Convolution" in output.grad_fn.name()
    output.square().sum().backward()
    torch.testing.assert_close(conv.weight.grad, of_weight)
    torch.testing.assert_close(feature.grad, of_feature)


def test_gradients_of_gradients_are_the_plain_ones(case: Given) -> None:
    conv, feature, _, _ = case
    found = []
    for in_place in (True, False):
        conv.in_place = in_place
        (gradient,) = torch.autograd.grad(conv(feature).square().sum(), conv.weight, create_graph=True)
        found.append(torch.autograd.grad(gradient.square().sum(), (conv.weight, feature)))
    torch.testing.assert_close(found[0], found[1])


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
