"""What every network returns: the one shape in which logits cross from networks to losses, metrics and export."""

from typing import NamedTuple

import torch


class SegmentationLogits(NamedTuple):
    """Unnormalised class scores of one forward pass, each head at its own output stride.

    Attributes:
        main: The logits that predictions are made from.
        auxiliary: Logits of the training-only heads, in the network's own order; empty in evaluation.

    Shape:
        main: (N, num_classes, H / stride, W / stride), floating point, any range; auxiliary likewise.
    """

    main: torch.Tensor
    auxiliary: tuple[torch.Tensor, ...] = ()
