"""The derived network: an `Architecture` as plain modules, and as a list of operator specifications.

Both read their channel counts from the same functions, so that the network whose latency is predicted is the network
that is trained.
"""

from collections.abc import Iterator

import torch
from torch import nn

from fasterseg.networks.architecture import Architecture, CellChoice
from fasterseg.networks.channels import cell_channels
from fasterseg.networks.heads import BranchFusion, Head, Stem, fused_channels, stem_channels
from fasterseg.networks.network import Network, SegmentationLogits
from fasterseg.networks.operator_specs import (
    CellSpec,
    ConvNormActSpec,
    HeadSpec,
    OperatorSpec,
    ResizeSpec,
    input_fields,
)
from fasterseg.networks.operators import Conv2x, ConvNormAct, operator_class
from fasterseg.networks.resizing import Size, strided
from fasterseg.networks.space import STRIDES


def _branch_channels(architecture: Architecture, branch: tuple[CellChoice, ...]) -> list[int]:
    """Channels before the first cell and after each cell of a branch."""
    first = stem_channels(architecture.base_channels, architecture.stem_width)[-1]
    return [first] + [cell_channels(cell.out_scale, architecture.base_channels, cell.width) for cell in branch]


def _last_maps(architecture: Architecture, branch: tuple[CellChoice, ...]) -> dict[int, int]:
    """Channels of a branch's last map of every output stride it passes, by stride, ascending."""
    channels = _branch_channels(architecture, branch)
    scales = [STRIDES[0]] + [cell.out_scale for cell in branch]
    return dict(zip(scales, channels, strict=True))


class DerivedNetwork(Network):
    """The network that an architecture describes.

    Args:
        architecture: Branches, widths and channels.
        num_classes: Channels of the logits.

    Shape:
        (N, 3, H, W) normalised RGB to main logits at stride 8; in training mode also auxiliary logits at those of
        strides 16 and 32 that a branch reaches.

    Source: FasterSeg, sections 3.1 and 3.4.
    """

    def __init__(self, architecture: Architecture, num_classes: int) -> None:
        super().__init__()
        self.architecture = architecture
        self.num_classes = num_classes
        base, width = architecture.base_channels, architecture.head_width
        self.stem = Stem(base, architecture.stem_width)
        self.branches = nn.ModuleList()
        self.fusions = nn.ModuleList()
        out_channels, auxiliary_channels = 0, dict.fromkeys(STRIDES[1:], 0)
        for branch in architecture.branches:
            self.branches.append(self._build_cells(branch))
            maps = _last_maps(architecture, branch)
            deepest_first = list(reversed(maps.values()))
            self.fusions.append(BranchFusion(base, width, map_channels=deepest_first))
            out_channels += (deepest_first[:1] + list(fused_channels(base, width, steps=len(maps) - 1)))[-1]
            for scale in auxiliary_channels:
                auxiliary_channels[scale] += maps.get(scale, 0)
        self.ffm = ConvNormAct(out_channels, out_channels, kernel_size=1)
        self.head = Head(out_channels, num_classes)
        self.auxiliary_heads = nn.ModuleDict(
            {str(scale): Head(channels, num_classes) for scale, channels in auxiliary_channels.items() if channels}
        )
        self.auxiliary_scales = tuple(int(scale) for scale in self.auxiliary_heads)

    def _build_cells(self, branch: tuple[CellChoice, ...]) -> nn.ModuleList:
        channels = _branch_channels(self.architecture, branch)
        cells = nn.ModuleList()
        for layer, cell in enumerate(branch):
            if self.branches and layer < self.architecture.shared_cells:
                continue
            operator = operator_class(cell.operator)
            cells.append(operator(channels[layer], channels[layer + 1], stride=cell.stride))
        return cells

    def _run_branches(self, feature: torch.Tensor) -> list[dict[int, torch.Tensor]]:
        """The last map of every output stride of each branch; shared cells run once."""
        branches: list[dict[int, torch.Tensor]] = []
        shared = self.architecture.shared_cells
        shared_maps = {STRIDES[0]: feature}
        for cells, choices in zip(self.branches, self.architecture.branches, strict=True):
            maps = dict(shared_maps)
            assert isinstance(cells, nn.ModuleList)
            for layer, operator in enumerate(cells, start=shared if branches else 0):
                feature = operator(maps[choices[layer].scale])
                maps[choices[layer].out_scale] = feature
                if not branches and layer < shared:
                    shared_maps = dict(maps)
            branches.append(maps)
        return branches

    def forward(self, image: torch.Tensor) -> SegmentationLogits:
        """Computes the logits of (N, 3, H, W)."""
        branches = self._run_branches(self.stem(image))
        fused = [
            fusion([maps[scale] for scale in sorted(maps, reverse=True)])
            for fusion, maps in zip(self.fusions, branches, strict=True)
        ]
        main = self.head(self.ffm(torch.cat(fused, dim=1)))
        if not self.training:
            return SegmentationLogits(main)
        auxiliary = tuple(
            head(torch.cat([maps[int(scale)] for maps in branches if int(scale) in maps], dim=1))
            for scale, head in self.auxiliary_heads.items()
        )
        return SegmentationLogits(main, auxiliary)

    def operator_specs(self, input_size: Size) -> tuple[OperatorSpec, ...]:
        """See `Network.operator_specs`."""
        return derived_specs(self.architecture, self.num_classes, input_size=input_size)


def derived_specs(architecture: Architecture, num_classes: int, *, input_size: Size) -> tuple[OperatorSpec, ...]:
    """The operator specifications of one evaluation of the derived network, without building it.

    Args:
        architecture: The derived architecture.
        num_classes: Channels of the logits.
        input_size: (height, width) of the image.

    Returns:
        Stem, cells (shared ones once), fusion, feature fusion module, head and the final resize, in running order.
    """
    specs = list(stem_specs(architecture.base_channels, architecture.stem_width, input_size=input_size))
    out_channels = 0
    for index, branch in enumerate(architecture.branches):
        channels = _branch_channels(architecture, branch)
        for layer in range(architecture.shared_cells if index else 0, len(branch)):
            specs.append(cell_spec(branch[layer], channels[layer], channels[layer + 1], input_size=input_size))
        maps = _last_maps(architecture, branch)
        deep, deep_scale = maps[max(maps)], max(maps)
        fused = fused_channels(architecture.base_channels, architecture.head_width, steps=len(maps) - 1)
        for scale, step_channels in zip(sorted(maps, reverse=True)[1:], fused, strict=True):
            specs += fusion_specs(
                deep, maps[scale], out_channels=step_channels, deep_scale=deep_scale, input_size=input_size
            )
            deep, deep_scale = step_channels, scale
        out_channels += deep
    return (*specs, *tail_specs(out_channels, num_classes, input_size=input_size))


def stem_specs(base_channels: int, width: float, *, input_size: Size) -> tuple[OperatorSpec, ...]:
    """The stem's three blocks for an image of (height, width)."""
    first, second, third = stem_channels(base_channels, width)
    sizes = [strided(input_size, stride) for stride in (1, 2, 4)]
    return (
        ConvNormActSpec(**input_fields(3, sizes[0]), out_channels=first, kernel_size=3, stride=2),
        *(
            CellSpec(**input_fields(before, size), operator=Conv2x.name, out_channels=after, stride=2)
            for before, after, size in ((first, second, sizes[1]), (second, third, sizes[2]))
        ),
    )


def cell_spec(cell: CellChoice, in_channels: int, out_channels: int, *, input_size: Size) -> CellSpec:
    """A cell's operator between maps of the given channels, for an image of (height, width)."""
    fields = input_fields(in_channels, strided(input_size, cell.scale))
    return CellSpec(**fields, operator=cell.operator, out_channels=out_channels, stride=cell.stride)


def fusion_specs(
    deep_channels: int, shallow_channels: int, *, out_channels: int, deep_scale: int, input_size: Size
) -> Iterator[OperatorSpec]:
    """One fusion step from output stride `deep_scale` to half of it: projection, resize, refinement."""
    deep, shallow = strided(input_size, deep_scale), strided(input_size, deep_scale // 2)
    yield ConvNormActSpec(**input_fields(deep_channels, deep), out_channels=out_channels, kernel_size=1, stride=1)
    yield ResizeSpec.of(out_channels, deep, shallow)
    concatenated = input_fields(out_channels + shallow_channels, shallow)
    yield ConvNormActSpec(**concatenated, out_channels=out_channels, kernel_size=3, stride=1)


def tail_specs(channels: int, num_classes: int, *, input_size: Size) -> tuple[OperatorSpec, ...]:
    """Feature fusion module, head and final resize after the concatenated branches."""
    size = strided(input_size, STRIDES[0])
    fields = input_fields(channels, size)
    return (
        ConvNormActSpec(**fields, out_channels=channels, kernel_size=1, stride=1),
        HeadSpec(**fields, num_classes=num_classes),
        ResizeSpec.of(num_classes, size, input_size),
    )
