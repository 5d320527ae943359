import pytest
import torch
from torch import nn

from fasterseg.networks.channels import StemKind
from fasterseg.networks.resnet import STAGES, Bottleneck, ResNet, resnet_channels

DILATIONS = ((1, 2, 2, 2, 2, 2), (2, 4, 4))


@pytest.mark.parametrize(("stem", "convolutions"), [("plain", [(64, 7)]), ("deep", [(64, 3), (64, 3), (128, 3)])])
def test_the_two_stems(stem: StemKind, convolutions: list[tuple[int, int]]) -> None:
    with torch.device("meta"):
        backbone = ResNet(stem, 1.0, dilations=DILATIONS)
    layers = [layer for layer in backbone.stem.modules() if isinstance(layer, nn.Conv2d)]
    assert [(layer.out_channels, layer.kernel_size[0]) for layer in layers] == convolutions
    assert [layer.stride[0] for layer in layers] == [2] + [1] * (len(layers) - 1)


def test_every_stage_puts_out_the_stated_map_and_rounds_up() -> None:
    with torch.device("meta"):
        backbone = ResNet("deep", 1.0, dilations=DILATIONS)
        feature = backbone.pool(backbone.stem(torch.zeros(1, 3, 65, 97)))
        shapes = []
        for stage in STAGES:
            feature = backbone.get_submodule(stage)(feature)
            shapes.append(tuple(feature.shape))
    assert shapes == [(1, 256, 17, 25), (1, 512, 9, 13), (1, 1024, 9, 13), (1, 2048, 9, 13)]


def test_stages_dilate_as_told_and_only_the_first_unit_has_a_convolution_as_shortcut() -> None:
    with torch.device("meta"):
        backbone = ResNet("deep", 1.0, dilations=DILATIONS)
    found = {}
    for stage in STAGES:
        units = [unit for unit in backbone.get_submodule(stage).children() if isinstance(unit, Bottleneck)]
        found[stage] = tuple(unit.spatial.conv.dilation[0] for unit in units)
        assert [unit.downsample is not None for unit in units] == [True] + [False] * (len(units) - 1)
    assert found == {
        "layer1": (1, 1, 1),
        "layer2": (1, 1, 1, 1),
        "layer3": DILATIONS[0],
        "layer4": DILATIONS[1],
    }


def test_a_width_factor_scales_every_channel_count() -> None:
    assert resnet_channels("deep", 0.5) == ((32, 32, 64), (32, 64, 128, 256), (128, 256, 512, 1024))
    assert all(count % 8 == 0 for counts in resnet_channels("plain", 0.3) for count in counts)


def test_a_bottleneck_adds_its_input() -> None:
    unit = Bottleneck(8, reduced_channels=4, spatial_channels=6, out_channels=8).eval()
    nn.init.zeros_(unit.expand.conv.weight)
    feature = torch.randn(2, 8, 5, 7)
    torch.testing.assert_close(unit(feature), feature.relu())


def test_a_strided_bottleneck_halves_the_map_and_rounds_up() -> None:
    unit = Bottleneck(8, reduced_channels=4, spatial_channels=4, out_channels=16, stride=2, dilation=2, downsample=True)
    assert unit(torch.randn(2, 8, 5, 7)).shape == (2, 16, 3, 4)
