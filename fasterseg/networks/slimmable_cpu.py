"""The CPU's form of the slimmable convolution: the same values, with gradients added to `weight.grad` in place.

For a slice `weight[:out, :in]`, autograd creates a gradient of the whole weight's size, zero outside the slice, and
adds all of it to `weight.grad`. For narrow passes that costs more than the convolution. Here the backward pass adds to
the slice of `weight.grad` directly. It does so only if the result is the same: in a plain `backward()` and without
hooks on the weight. Otherwise, as in `torch.autograd.grad`, it returns the gradient to autograd.
"""

from typing import Any

import torch
from torch.autograd.graph import get_gradient_edge
from torch.nn import functional

# the weight gradient is a matrix product for at least this many weights and at most this many output pixels: on a Xeon
# with 2 MiB of cache per core that takes 0.3 to 0.45 of the time at 32 pixels and 0.85 to 0.95 at 128
_PRODUCT_MIN_WEIGHTS, _PRODUCT_MAX_PIXELS = 400_000, 128
Pair = tuple[int, ...]


def convolve_on_cpu(
    input: torch.Tensor, weight: torch.Tensor, out_channels: int, *, stride: Pair, padding: Pair | str
) -> torch.Tensor:
    """Convolves with the first channels of a weight.

    Args:
        input: (N, C, H, W) for any C up to the weight's input channels.
        weight: (O, I, k, k).
        out_channels: How many output channels to compute.
        stride: Of both sides.
        padding: Of both sides.
    """
    if _product_pays(input, weight, out_channels, stride):
        output: torch.Tensor = _GradientByProduct.apply(  # type: ignore[no-untyped-call]
            input, weight, out_channels, stride, padding
        )
        return output
    part: torch.Tensor = weight
    if (out_channels, input.shape[1]) != weight.shape[:2]:
        part = _FirstChannels.apply(weight, out_channels, input.shape[1])  # type: ignore[no-untyped-call]
    if weight.shape[2:] == (1, 1) and tuple(stride) == (2, 2):
        # reads a quarter of the pixels; the convolution would first copy all of a shifted map
        return functional.conv2d(input[:, :, ::2, ::2], part)
    return functional.conv2d(input, part, None, stride, padding)


def _product_pays(input: torch.Tensor, weight: torch.Tensor, out_channels: int, stride: Pair) -> bool:
    """Whether `_GradientByProduct` is faster: for many weights and few pixels."""
    if not (torch.is_grad_enabled() and weight.requires_grad):
        return False
    out_pixels = input[:, 0].numel() // (stride[0] * stride[1])
    weights = out_channels * input.shape[1] * weight.shape[2] * weight.shape[3]
    small = out_pixels <= _PRODUCT_MAX_PIXELS and weights >= _PRODUCT_MIN_WEIGHTS
    return small and not torch.is_autocast_enabled("cpu")


def _can_accumulate_in_place(weight: torch.Tensor) -> bool:
    """Whether the current backward pass accumulates into `weight.grad`, and no hook needs the gradient."""
    # with `create_graph` the gradient needs a graph, and a weight that is not a leaf has no `grad`
    if torch.is_grad_enabled() or not weight.is_leaf:
        return False
    if weight._backward_hooks or weight._post_accumulate_grad_hooks:
        return False
    try:
        return _is_computed(weight)
    except RuntimeError:  # PyTorch's answer for a leaf in `torch.autograd.grad`, which returns the gradient instead
        return False


def _is_computed(weight: torch.Tensor) -> bool:
    """Whether the current backward pass computes the weight's gradient."""
    return bool(torch._C._will_engine_execute_node(get_gradient_edge(weight).node))


def _whole_gradient(weight: torch.Tensor) -> torch.Tensor:
    """`weight.grad`, created as zeros when missing."""
    if weight.grad is None:
        weight.grad = torch.zeros_like(weight)
    return weight.grad


def _padded(gradient: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The gradient of the first channels, padded by zeros to the size of the whole weight."""
    missing = (weight.shape[1] - gradient.shape[1], weight.shape[0] - gradient.shape[0])
    return functional.pad(gradient, (0, 0, 0, 0, 0, missing[0], 0, missing[1]))


class _FirstChannels(torch.autograd.Function):
    """The first channels of a weight."""

    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor, out_channels: int, in_channels: int) -> torch.Tensor:
        ctx.weight = weight
        return weight[:out_channels, :in_channels]

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, None, None]:
        weight = ctx.weight
        if not _can_accumulate_in_place(weight):
            return _padded(gradient, weight), None, None
        _whole_gradient(weight)[: gradient.shape[0], : gradient.shape[1]] += gradient
        return None, None, None


class _GradientByProduct(torch.autograd.Function):
    """A convolution with the first channels of a weight, whose gradient is a matrix product.

    PyTorch's convolution computes the weight gradient in another memory layout. With more weights than pixels, that
    costs more than the arithmetic. The matrix product adds to `weight.grad` directly.
    """

    @staticmethod
    def forward(
        ctx: Any, input: torch.Tensor, weight: torch.Tensor, out_channels: int, stride: Pair, padding: Pair
    ) -> torch.Tensor:
        ctx.save_for_backward(input, weight)
        ctx.weight, ctx.out_channels, ctx.stride, ctx.padding = weight, out_channels, stride, padding
        return functional.conv2d(input, weight[:out_channels, : input.shape[1]], None, stride, padding)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None, None, None]:
        input, weight = ctx.saved_tensors
        part = weight[: ctx.out_channels, : input.shape[1]]
        in_place = _can_accumulate_in_place(ctx.weight)
        of_input, of_part = None, None
        wanted = [ctx.needs_input_grad[0], not in_place, False]
        if any(wanted):
            of_input, of_part, _ = torch.ops.aten.convolution_backward(
                gradient, input, part, None, ctx.stride, ctx.padding, (1, 1), False, (0, 0), 1, wanted
            )
        if of_part is not None:
            return of_input, _padded(of_part, weight), None, None, None
        patches = functional.unfold(input, weight.shape[2:], padding=ctx.padding, stride=ctx.stride).transpose(1, 2)
        patches = patches.reshape(-1, patches.shape[2])
        outer = gradient.transpose(0, 1).reshape(ctx.out_channels, -1)
        flat = _whole_gradient(ctx.weight).view(len(weight), -1)
        flat[: ctx.out_channels, : patches.shape[1]].addmm_(outer, patches)
        return of_input, None, None, None, None
