"""The end of a mixed operator: each operator's last batch norm and ReLU, and the weighted sum of them all.

`mix_finished` is the plain form, made of PyTorch's operations. `mix_convolved` is the same for training on a CPU as one
node: it keeps what the convolutions gave, half of what the plain form keeps, and computes the rest again on the way
back.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from fasterseg.networks.operators import Operator, ZoomedOperator
from fasterseg.networks.resizing import Size, map_size, resize_bilinear
from fasterseg.networks.slimmable import BatchNorm, SlimmableBatchNorm2d


def mix_finished(maps: Sequence[torch.Tensor], weights: torch.Tensor) -> torch.Tensor:
    """The weighted sum over operators and parents.

    Args:
        maps: For each operator its results on all parents, (parents · N, C, H, W).
        weights: (parents, operators).

    Returns:
        (N, C, H, W).
    """
    parents = weights.shape[0]
    # weights in the maps' type, or the sum of bfloat16 maps would be float32
    weights = weights.to(maps[0].dtype)
    columns = weights.view(*weights.shape, 1, 1, 1, 1).unbind(1)
    total = maps[0].view(parents, -1, *maps[0].shape[1:]) * columns[0]
    for feature, column in zip(maps[1:], columns[1:], strict=True):
        total = torch.addcmul(total, feature.view(parents, -1, *feature.shape[1:]), column)
    return total[0] if parents == 1 else total[0] + total[1]


def can_mix_convolved(convolved: torch.Tensor) -> bool:
    """Whether `mix_convolved` applies: on a CPU, in full precision, with gradient."""
    full = convolved.dtype in (torch.float32, torch.float64)
    return convolved.device.type == "cpu" and full and torch.is_grad_enabled()


def mix_convolved(
    operators: Sequence[Operator], convolved: Sequence[torch.Tensor], weights: torch.Tensor, size: Size
) -> torch.Tensor:
    """Applies the last batch norms and ReLUs of operators in training mode and adds up the results.

    Args:
        operators: The operators, with slimmable layers.
        convolved: What the `convolve` of each gave on all parents, (parents · N, C, h, w).
        weights: (parents, operators).
        size: (height, width) of the operators' input.

    Returns:
        (N, C, H, W).
    """
    ends = []
    for operator, feature in zip(operators, convolved, strict=True):
        norms = operator.last_norm
        assert isinstance(norms, SlimmableBatchNorm2d)
        zooms = isinstance(operator, ZoomedOperator) and operator.stride == 1
        ends.append(_End(norms.of(feature), size if zooms else map_size(feature)))
    affine = [parameter for end in ends for parameter in (end.norm.weight, end.norm.bias)]
    mixed: torch.Tensor = _Mix.apply(ends, weights, *convolved, *affine)  # type: ignore[no-untyped-call]
    return mixed


class _End(NamedTuple):
    """The layers after an operator's last convolution."""

    norm: BatchNorm
    size: Size


class _Statistics(NamedTuple):
    """Mean and inverse standard deviation of each channel, over one parent's part of a batch."""

    mean: torch.Tensor
    inverse: torch.Tensor


class _Mix(torch.autograd.Function):
    """See `mix_convolved`."""

    @staticmethod
    def forward(ctx: Any, ends: Sequence[_End], weights: torch.Tensor, *tensors: torch.Tensor) -> torch.Tensor:
        convolved = tensors[: len(ends)]
        parents = weights.shape[0]
        ctx.ends, ctx.statistics = ends, []
        total: torch.Tensor | None = None
        for end, feature, column in zip(ends, convolved, weights.T.tolist(), strict=True):
            normalised, statistics = _normalise(end.norm, feature, parents)
            ctx.statistics.append(statistics)
            finished = resize_bilinear(normalised, end.size).relu_()
            for part, weight in zip(finished.chunk(parents), column, strict=True):
                if total is not None:
                    total.add_(part, alpha=weight)
                else:
                    total = part.mul_(weight) if parents == 1 else part * weight
        ctx.save_for_backward(weights, *tensors)
        assert total is not None
        return total

    @staticmethod
    def backward(ctx: Any, outer: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        weights, *tensors = ctx.saved_tensors
        ends: Sequence[_End] = ctx.ends
        convolved, affine = tensors[: len(ends)], tensors[len(ends) :]
        outer = outer.contiguous()
        weights_gradient = torch.empty_like(weights) if ctx.needs_input_grad[1] else None
        feature_gradients: list[torch.Tensor | None] = []
        affine_gradients: list[torch.Tensor | None] = []
        for index, (end, feature, column) in enumerate(zip(ends, convolved, weights.T.tolist(), strict=True)):
            scale, shift = affine[2 * index : 2 * index + 2]
            statistics = ctx.statistics[index]
            finished = resize_bilinear(_affine(feature, scale, shift, statistics), end.size)
            gradient = torch.empty_like(finished)
            for parent, part in enumerate(gradient.chunk(len(column))):
                torch.mul(outer, column[parent], out=part)
            torch.ops.aten.threshold_backward.grad_input(gradient, finished, 0, grad_input=gradient)
            if weights_gradient is not None:
                for parent, part in enumerate(finished.relu_().chunk(len(column))):
                    weights_gradient[parent, index] = torch.dot(part.flatten(), outer.flatten())
            if end.size != map_size(feature):
                gradient = torch.ops.aten.upsample_bilinear2d_backward(
                    gradient, list(end.size), list(feature.shape), True
                )
            own, of_scale, of_shift = _normalise_backward(
                gradient, feature, scale, statistics, end.norm.eps, with_affine=scale.requires_grad
            )
            feature_gradients.append(own)
            affine_gradients += [of_scale, of_shift]
        ctx.statistics = []
        return None, weights_gradient, *feature_gradients, *affine_gradients


def _normalise(norm: BatchNorm, feature: torch.Tensor, parents: int) -> tuple[torch.Tensor, list[_Statistics]]:
    """Batch norm of each parent's part by itself; each part updates the running statistics once."""
    normalised = torch.empty_like(feature)
    statistics = []
    for part, result in zip(feature.chunk(parents), normalised.chunk(parents), strict=True):
        own = _Statistics(feature.new_empty(0), feature.new_empty(0))
        torch.ops.aten.native_batch_norm.out(
            part,
            norm.weight,
            norm.bias,
            norm.running_mean,
            norm.running_var,
            True,
            norm.momentum,
            norm.eps,
            out=result,
            save_mean=own.mean,
            save_invstd=own.inverse,
        )
        statistics.append(own)
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked += parents
    return normalised, statistics


def _affine(
    feature: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor, statistics: Sequence[_Statistics]
) -> torch.Tensor:
    """Computes the output of `_normalise` again from its statistics."""
    normalised = torch.empty_like(feature)
    parts = zip(feature.chunk(len(statistics)), normalised.chunk(len(statistics)), statistics, strict=True)
    for part, result, own in parts:
        factor = scale * own.inverse
        offset = torch.addcmul(shift, own.mean, factor, value=-1)
        torch.addcmul(offset.view(1, -1, 1, 1), part, factor.view(1, -1, 1, 1), out=result)
    return normalised


def _normalise_backward(
    gradient: torch.Tensor,
    feature: torch.Tensor,
    scale: torch.Tensor,
    statistics: Sequence[_Statistics],
    eps: float,
    *,
    with_affine: bool,
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """The gradients of the map, the scale and the shift."""
    parents = len(statistics)
    found = [
        torch.ops.aten.native_batch_norm_backward(
            part, own_feature, scale, None, None, own.mean, own.inverse, True, eps, [True, with_affine, with_affine]
        )
        for part, own_feature, own in zip(gradient.chunk(parents), feature.chunk(parents), statistics, strict=True)
    ]
    maps, scales, shifts = zip(*found, strict=True)
    whole = maps[0] if parents == 1 else torch.cat(maps)
    if not with_affine:
        return whole, None, None
    return whole, functools.reduce(torch.add, scales), functools.reduce(torch.add, shifts)
