import torch
from torch import nn

from fasterseg.networks import count_macs, count_parameters, measure_size


def test_a_convolutions_operations_are_counted_once_each() -> None:
    convolution = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
    assert count_parameters(convolution) == 3 * 8 * 9
    assert count_macs(convolution, (9, 16)) == 3 * 8 * 9 * 5 * 8
    assert measure_size(convolution, (9, 16)) == (3 * 8 * 9, 3 * 8 * 9 * 5 * 8)


def test_frozen_parameters_do_not_count() -> None:
    convolution = nn.Conv2d(3, 8, 1)
    assert convolution.bias is not None
    convolution.bias.requires_grad = False
    assert count_parameters(convolution) == 24


def test_counting_leaves_the_module_as_it_was() -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    count_macs(module, (16, 16))
    assert module.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
