import pytest
import torch
from torch import nn

from fasterseg.networks import SegmentationLogits, count_macs, count_parameters
from fasterseg.networks.icnet import ICNet, ICNetArchitecture

NUM_CLASSES = 19


def on_meta(architecture: ICNetArchitecture) -> ICNet:
    with torch.device("meta"):
        return architecture.build(NUM_CLASSES)


@pytest.fixture
def narrow() -> ICNet:
    torch.manual_seed(0)
    return ICNetArchitecture(width_factor=0.125).build(5)


def test_size_at_1024x2048_without_the_dead_computation() -> None:
    network = on_meta(ICNetArchitecture())
    assert count_parameters(network) == 26_249_376
    assert count_macs(network, (1024, 2048)) == pytest.approx(114.1e9, rel=0.01)


def test_half_the_width_is_a_quarter_of_the_size() -> None:
    network = on_meta(ICNetArchitecture(width_factor=0.5))
    assert count_parameters(network) == pytest.approx(26_249_376 / 4, rel=0.02)
    assert count_macs(network, (1024, 2048)) == pytest.approx(114.1e9 / 4, rel=0.02)


def test_training_puts_out_the_logits_of_every_loss(narrow: ICNet) -> None:
    logits: SegmentationLogits = narrow.train()(torch.randn(2, 3, 65, 96))
    assert logits.main.shape == (2, 5, 17, 24)
    assert narrow.auxiliary_scales == (8, 16)
    assert [tuple(output.shape) for output in logits.auxiliary] == [(2, 5, 9, 12), (2, 5, 5, 6)]


def test_a_gradient_from_the_main_output_reaches_layer4(narrow: ICNet) -> None:
    logits = narrow.train()(torch.randn(2, 3, 64, 96))
    logits.main.square().mean().backward()
    for name, parameter in narrow.named_parameters():
        if name.startswith("auxiliary_heads."):
            assert parameter.grad is None
        else:
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_the_half_size_image_stops_after_layer2(narrow: ICNet) -> None:
    narrow.train()(torch.randn(2, 3, 64, 96))
    batches = {
        name.split(".")[1]: int(value)
        for name, value in narrow.state_dict().items()
        if name.startswith("backbone.") and name.endswith("num_batches_tracked")
    }
    assert batches == {"stem": 2, "layer1": 2, "layer2": 2, "layer3": 1, "layer4": 1}


def test_plain_convolutions_and_norms_alone_have_weights(narrow: ICNet) -> None:
    owners = {type(module) for module in narrow.modules() if next(module.parameters(recurse=False), None) is not None}
    assert owners == {nn.Conv2d, nn.BatchNorm2d}
