import pytest
import torch
from torch import nn

from fasterseg.networks import SegmentationLogits, count_macs, count_parameters
from fasterseg.networks.pspnet import PSPNet, PSPNetArchitecture

NUM_CLASSES = 19


def on_meta(architecture: PSPNetArchitecture) -> PSPNet:
    with torch.device("meta"):
        return architecture.build(NUM_CLASSES)


@pytest.fixture
def narrow() -> PSPNet:
    torch.manual_seed(0)
    return PSPNetArchitecture(width_factor=0.125).build(5)


def test_size_at_713() -> None:
    network = on_meta(PSPNetArchitecture())
    parameters = count_parameters(network)
    assert round(parameters / 1e6, 2) == 49.08
    assert round((parameters - count_parameters(network.auxiliary_heads)) / 1e6, 2) == 46.72
    assert count_macs(network, (713, 713)) == pytest.approx(363.8e9, rel=0.01)


def test_training_adds_the_auxiliary_head_on_layer3(narrow: PSPNet) -> None:
    logits: SegmentationLogits = narrow.train()(torch.randn(2, 3, 64, 97))
    assert narrow.auxiliary_scales == (8,)
    assert [tuple(output.shape) for output in (logits.main, *logits.auxiliary)] == [(2, 5, 8, 13)] * 2
    logits.auxiliary[0].square().mean().backward()
    with_gradient = {name.split(".")[1] for name, value in narrow.named_parameters() if value.grad is not None}
    assert with_gradient == {"stem", "layer1", "layer2", "layer3", "8"}


def test_layer3_and_layer4_are_dilated_throughout() -> None:
    backbone = on_meta(PSPNetArchitecture()).backbone
    for stage, dilation in ((backbone.layer3, 2), (backbone.layer4, 4)):
        spatial = [layer for layer in stage.modules() if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3)]
        assert {layer.dilation for layer in spatial} == {(dilation, dilation)}


def test_dropout_acts_in_training_only(narrow: PSPNet) -> None:
    hidden = torch.rand(2, narrow.head.classifier.in_channels, 3, 3)
    narrow.train()
    assert not torch.equal(narrow.head.classify(hidden), narrow.head.classifier(hidden))
    narrow.eval()
    assert torch.equal(narrow.head.classify(hidden), narrow.head.classifier(hidden))


def test_one_image_alone_is_refused_in_training(narrow: PSPNet) -> None:
    image = torch.randn(1, 3, 64, 64)
    network = narrow.train()
    with pytest.raises(ValueError, match="a batch of 1 image cannot train PSPNet50: .* use a batch_size .* at least 2"):
        network(image)
    assert network(image.expand(2, -1, -1, -1)).main.shape[0] == 2
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    assert network(image).main.requires_grad
