import pytest
import torch
from torch import nn

from benchmarks.convolutions import ConvolutionCount, best_convolution_flops_per_s
from fasterseg.networks.slimmable import SlimmableConv2d


def test_counts_calls_and_operations_of_both_passes() -> None:
    conv = nn.Conv2d(3, 8, 3, padding=1, bias=False)
    macs = 2 * 16 * 20 * 3 * 8 * 9
    with ConvolutionCount() as forward:
        output = conv(torch.randn(2, 3, 16, 20, requires_grad=True))
    assert (forward.calls, forward.flops) == (1, 2 * macs)
    with ConvolutionCount() as backward:
        output.sum().backward()
    assert (backward.calls, backward.flops) == (0, 4 * macs)


def test_a_frozen_weight_costs_a_third_less() -> None:
    conv = nn.Conv2d(4, 4, 3, bias=False).requires_grad_(False)
    with ConvolutionCount() as count:
        conv(torch.randn(1, 4, 8, 8, requires_grad=True)).sum().backward()
    assert count.flops == 2 * 2 * 36 * 4 * 4 * 9
    with ConvolutionCount() as other:
        torch.randn(4, 4) @ torch.randn(4, 4)
    assert (other.calls, other.flops) == (0, 0)


def test_a_gradient_by_product_counts_like_the_convolutions() -> None:
    feature = torch.randn(2, 240, 4, 4, requires_grad=True)
    flops = []
    for conv in (SlimmableConv2d(240, 256, kernel_size=3), nn.Conv2d(240, 256, 3, padding=1, bias=False)):
        output = conv(feature)
        with ConvolutionCount() as count:
            output.sum().backward()
        flops.append(count.flops)
    assert flops[0] == flops[1]


@pytest.mark.slow
def test_a_machine_does_some_convolution_in_a_second() -> None:
    best = best_convolution_flops_per_s(torch.device("cpu"), torch.float32, synchronize=lambda: None, repeats=1)
    assert best > 1e9
