"""PSPNet50: a dilated ResNet50 at stride 8, pyramid pooling and a wide head; the strong and slow baseline."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from fasterseg.networks.baseline import BaselineArchitecture, BaselineNetwork
from fasterseg.networks.network import SegmentationLogits
from fasterseg.networks.operator_specs import ClassifierSpec, ConvNormActSpec, OperatorSpec, ResizeSpec
from fasterseg.networks.operators import ConvNormAct
from fasterseg.networks.pyramid import PYRAMID_BINS, PyramidPooling, PyramidStage, PyramidStageSpec
from fasterseg.networks.resizing import Size, strided
from fasterseg.networks.resnet import STAGES, Dilations, ResNet, resnet_channels, scaled_channels

DILATIONS: Dilations = ((2,) * 6, (4,) * 3)
DROPOUT = 0.1
_STAGE_HEAD_AUXILIARY_CHANNELS = (512, 512, 256)


@dataclass(frozen=True)
class PSPNetArchitecture(BaselineArchitecture):
    """PSPNet50's structure; see `BaselineArchitecture`."""

    FORMAT: ClassVar[str] = "pspnet-architecture"

    def build(self, num_classes: int) -> "PSPNet":
        """The network with fresh weights."""
        return PSPNet(self, num_classes)


class DropoutHead(nn.Module):
    """PSPNet's prediction head: 3×3 convolution, batch norm, ReLU, channel dropout, 1×1 convolution with bias.

    Shape:
        (N, in_channels, H, W) to logits (N, num_classes, H, W).

    Source: semseg, model/pspnet.py (`cls` and `aux`).
    """

    def __init__(self, in_channels: int, hidden_channels: int, num_classes: int, *, dropout: float) -> None:
        super().__init__()
        self.block = ConvNormAct(in_channels, hidden_channels, kernel_size=3)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(hidden_channels, num_classes, 1)

    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        """Runs the head on (N, in_channels, H, W)."""
        return self.classify(self.block(feature))

    def classify(self, hidden: torch.Tensor) -> torch.Tensor:
        """The logits of the block's output (N, hidden_channels, H, W)."""
        logits: torch.Tensor = self.classifier(self.dropout(hidden))
        return logits


class PSPNet(BaselineNetwork):
    """Pyramid scene parsing network over a dilated ResNet50.

    Args:
        architecture: Stem and width.
        num_classes: Channels of the logits.

    Attributes:
        backbone: The ResNet50, which ImageNet weights are for.

    Shape:
        (N, 3, H, W) normalised RGB to main logits at stride 8; in training mode auxiliary logits at stride 8 of
        layer3's output.

    Source: Zhao et al., CVPR 2017; layers as in the authors' PyTorch release (semseg), any input size.
    """

    auxiliary_scales = (8,)

    def __init__(self, architecture: PSPNetArchitecture, num_classes: int) -> None:
        super().__init__()
        self.architecture = architecture
        self.num_classes = num_classes
        width = architecture.width_factor
        *_, third, fourth = resnet_channels(architecture.stem, width).out
        stage, head, auxiliary = scaled_channels(_STAGE_HEAD_AUXILIARY_CHANNELS, width)
        self.backbone = ResNet(architecture.stem, width, dilations=DILATIONS)
        self.pyramid = PyramidPooling(fourth, stage)
        self.head = DropoutHead(fourth + len(PYRAMID_BINS) * stage, head, num_classes, dropout=DROPOUT)
        self.auxiliary_heads = nn.ModuleDict({"8": DropoutHead(third, auxiliary, num_classes, dropout=DROPOUT)})

    def forward(self, image: torch.Tensor) -> SegmentationLogits:
        """Computes the logits of (N, 3, H, W).

        Raises:
            ValueError: A training batch has one image, which the pyramid's batch norm cannot normalise.
        """
        self._check_batch(image)
        second = self.run_segment(self.backbone.layer2, self.run_segment(self.backbone.shallow, image))
        third = self.run_segment(self.backbone.layer3, second)
        fourth = self.run_segment(self.backbone.layer4, third)
        main = self.head.classify(self.run_segment(self._pool, fourth))
        if not self.training:
            return SegmentationLogits(main)
        return SegmentationLogits(main, (self.auxiliary_heads["8"](third),))

    def _check_batch(self, image: torch.Tensor) -> None:
        """Refuses a training batch of one image: its pooled map is one value, which batch norm cannot normalise."""
        norm = self.pyramid.stages[0].get_submodule("project.norm")
        # a synchronised batch norm also sees the images of other processes
        if image.shape[0] == 1 and norm.training and type(norm) is nn.BatchNorm2d:
            raise ValueError(
                "a batch of 1 image cannot train PSPNet50: batch norm cannot normalise the average over its whole map; "
                "use a batch_size (divided by accumulation) of at least 2, or batch_norm frozen"
            )

    def _pool(self, feature: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.head.block(self.pyramid(feature))
        return hidden

    def operator_specs(self, input_size: Size) -> tuple[OperatorSpec, ...]:
        """See `Network.operator_specs`; the concatenation of the pyramid is not listed."""
        size = strided(input_size, 8)
        stages = [stage for stage in self.pyramid.stages if isinstance(stage, PyramidStage)]
        return (
            *self.backbone.operator_specs(STAGES, input_size),
            *(PyramidStageSpec.of(stage, size) for stage in stages),
            ConvNormActSpec.of(self.head.block, size),
            ClassifierSpec.of(self.head.classifier, size),
            ResizeSpec.of(self.num_classes, size, input_size),
        )
