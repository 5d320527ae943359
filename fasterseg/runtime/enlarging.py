"""The last resize of a network as matrix products: the form in which networks are exported for CPUs.

CPU runtimes resize logits to the image's size in the memory layout of their convolutions, and then transpose the
result. That can take a third of the network's time. A bilinear resize is linear along each axis, so products with
narrow matrices can compute it and write the result in its final layout. Values differ only by rounding.
"""

import torch
from torch import nn

from fasterseg.networks.network import DeployedNetwork
from fasterseg.networks.operator_specs import ResizeSpec
from fasterseg.networks.resizing import Resize, Size

# smaller factors are cheap in either form
_LEAST_FACTOR = 4
# rows or columns of the result per matrix: fewer save arithmetic, but too small products are slow
_LARGEST_BLOCK, _SMALLEST_BLOCK = 64, 16


class ProductResize(nn.Module):
    """A bilinear resize with aligned corners, written as one batch of matrix products for each axis.

    Args:
        size: (height, width) of the input.
        out_size: (height, width) of the output; see `can_multiply`.

    Shape:
        (1, C, *size) to (1, C, *out_size).
    """

    row_sources: torch.Tensor
    row_weights: torch.Tensor
    column_sources: torch.Tensor
    column_weights: torch.Tensor

    def __init__(self, size: Size, out_size: Size) -> None:
        super().__init__()
        self.size, self.out_size = size, out_size
        rows, columns = (_blocks(before, after) for before, after in zip(size, out_size, strict=True))
        self.register_buffer("row_sources", rows[0])
        self.register_buffer("row_weights", rows[1])
        self.register_buffer("column_sources", columns[0])
        self.register_buffer("column_weights", columns[1].transpose(1, 2).contiguous())

    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        """Resizes (1, C, *size) to (1, C, *out_size); first the width, while there are few rows."""
        (height, _), (out_height, out_width) = self.size, self.out_size
        blocks, reach, _ = self.column_weights.shape
        lines = feature.index_select(3, self.column_sources).reshape(-1, blocks, reach).transpose(0, 1)
        wide = (lines @ self.column_weights).transpose(0, 1).reshape(1, -1, height, out_width)
        blocks, _, reach = self.row_weights.shape
        bands = wide.index_select(2, self.row_sources).reshape(1, -1, blocks, reach, out_width)
        return (self.row_weights @ bands).reshape(1, -1, out_height, out_width)


class _EnlargedNetwork(nn.Module):
    """A deployed network whose last resize is another module."""

    def __init__(self, network: nn.Module, resize: ProductResize) -> None:
        super().__init__()
        self.network, self.resize = network, resize

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """See `DeployedNetwork.forward`."""
        logits: torch.Tensor = self.resize(self.network(image).main)
        return logits


def enlarge_by_products(module: nn.Module, input_shape: tuple[int, int, int, int]) -> nn.Module:
    """The module with its last resize as products, if that is faster; any other module unchanged.

    Args:
        module: A deployed network, or a resize that stands for the last one of such a network. The result shares its
            weights; the module itself is not changed.
        input_shape: The fixed (N, C, H, W) of its input.
    """
    size = (input_shape[2], input_shape[3])
    if isinstance(module, Resize):
        fits = input_shape[0] == 1 and can_multiply(size, module.size)
        return ProductResize(size, module.size).eval() if fits else module
    if not isinstance(module, DeployedNetwork) or input_shape[0] != 1:
        return module
    last = module.network.operator_specs(size)[-1]
    if not isinstance(last, ResizeSpec) or not can_multiply((last.height, last.width), size):
        return module
    enlarged = _EnlargedNetwork(module.network, ProductResize((last.height, last.width), size))
    return enlarged.train(module.training)


def can_multiply(size: Size, out_size: Size) -> bool:
    """Whether a resize enlarges enough to gain, and its result divides into blocks."""
    return all(
        after >= _LEAST_FACTOR * before and before > 1 and _block(after) >= _SMALLEST_BLOCK
        for before, after in zip(size, out_size, strict=True)
    )


def _block(length: int) -> int:
    """The largest divisor of a side up to `_LARGEST_BLOCK`."""
    return max(part for part in range(1, _LARGEST_BLOCK + 1) if length % part == 0)


def _blocks(before: int, after: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The input positions and the weights of each block along an axis of the result.

    Returns:
        Positions along the axis of the input (blocks · reach,), and the weights (blocks, block, reach).
    """
    block = _block(after)
    positions = torch.linspace(0, before - 1, after, dtype=torch.float64).reshape(-1, block)
    lower = positions.floor().clamp(max=before - 2).long()
    reach = int((lower[:, -1] - lower[:, 0]).max()) + 2
    first = lower[:, :1].clamp(max=before - reach)
    sources = first + torch.arange(reach)
    # each value is a weighted mean of its two nearest inputs
    weights = (1 - (positions.unsqueeze(2) - sources.unsqueeze(1)).abs()).clamp(min=0)
    return sources.flatten(), weights.float()
