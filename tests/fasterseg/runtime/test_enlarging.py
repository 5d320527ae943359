"""The last resize as matrix products computes what the resize computes."""

import numpy as np
import pytest
import torch

from fasterseg.engine.checkpoint import NetworkCheckpoint
from fasterseg.networks import DeployedNetwork
from fasterseg.networks.presets import load_preset
from fasterseg.networks.resizing import Resize, Size, resize_bilinear
from fasterseg.runtime.enlarging import ProductResize, can_multiply, enlarge_by_products
from fasterseg.runtime.export import onnx_bytes
from fasterseg.runtime.onnx_session import OnnxSession


@pytest.mark.parametrize(
    ("size", "out_size"),
    [((8, 16), (64, 128)), ((2, 3), (16, 48)), ((9, 17), (67 * 2, 160)), ((16, 5), (64, 50)), ((64, 128), (512, 1024))],
)
def test_products_equal_the_resize(size: Size, out_size: Size) -> None:
    # in float32 the resize rounds its positions, the products only their weights
    feature = torch.randn(1, 5, *size, dtype=torch.float64)
    expected = resize_bilinear(feature, out_size)
    found = ProductResize(size, out_size).double()(feature)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_a_matrix_reaches_no_further_than_its_block() -> None:
    weights = ProductResize((64, 128), (512, 1024)).row_weights
    assert weights.shape == (8, 64, 10)
    torch.testing.assert_close(weights.sum(2), torch.ones(8, 64))


@pytest.mark.parametrize(
    ("size", "out_size", "possible"),
    [
        ((8, 16), (64, 128), True),
        ((8, 16), (16, 32), False),  # too small a factor
        ((8, 16), (67, 128), False),  # a prime number of rows
        ((1, 16), (64, 128), False),  # a single row has no neighbours
    ],
)
def test_only_large_factors_of_divisible_sizes(size: Size, out_size: Size, possible: bool) -> None:
    assert can_multiply(size, out_size) is possible
    changed = enlarge_by_products(Resize(out_size), (1, 3, *size))
    assert isinstance(changed, ProductResize) is possible


def test_a_network_keeps_its_logits(checkpoint: NetworkCheckpoint) -> None:
    network = DeployedNetwork(checkpoint.build()).eval()
    shape = (1, 3, 64, 96)
    image = torch.randn(shape)
    changed = enlarge_by_products(network, shape)
    with torch.inference_mode():
        expected = network(image)
        torch.testing.assert_close(changed(image), expected, rtol=1e-4, atol=1e-4)
    found = OnnxSession(onnx_bytes(changed, shape)).run(image.numpy())
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-4)
    # several images at a time, and what is no network, stay as they are
    assert enlarge_by_products(network, (2, 3, 64, 96)) is network
    assert enlarge_by_products(network.network, shape) is network.network


@pytest.mark.parametrize("preset", ["icnet-half", "pspnet50"])
def test_the_baselines_end_with_products_too(preset: str) -> None:
    network = DeployedNetwork(load_preset(preset).build(3)).eval()
    changed = enlarge_by_products(network, (1, 3, 128, 128))
    assert any(isinstance(part, ProductResize) for part in changed.modules())
