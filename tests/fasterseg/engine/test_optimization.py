"""Learning rates and clipping."""

import pytest
import torch
from torch import nn

from fasterseg.base.devices import DeviceConfig
from fasterseg.engine.devices import build_fabric
from fasterseg.engine.optimization import adamw, clip_gradients, exponential_lr, poly_lr, set_lr, sgd, warm_up_factor


def test_schedules() -> None:
    assert exponential_lr(0.01, decay=0.992, epoch=0) == 0.01
    assert exponential_lr(0.01, decay=0.992, epoch=100) == pytest.approx(0.01 * 0.992**100)
    assert poly_lr(0.1, step=0, total_steps=10) == 0.1
    assert poly_lr(0.1, step=5, total_steps=10, power=1.0) == pytest.approx(0.05)
    assert poly_lr(0.1, step=10, total_steps=10) == 0
    assert [warm_up_factor(step, 3) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert warm_up_factor(0, 0) == 1


def test_sgd_follows_momentum_and_weight_decay() -> None:
    parameter = nn.Parameter(torch.tensor([1.0]))
    optimizer = sgd([parameter], lr=0.1, momentum=0.5, weight_decay=0.1)
    for _ in range(2):
        parameter.grad = torch.tensor([1.0])
        optimizer.step()
    # velocity 1.1, then 0.5 * 1.1 + 1 + 0.1 * 0.89
    assert parameter.item() == pytest.approx(1 - 0.11 - 0.1 * (0.55 + 1 + 0.089))


def test_set_lr_reaches_all_groups() -> None:
    optimizer = torch.optim.SGD([{"params": [nn.Parameter(torch.ones(1))]}, {"params": [nn.Parameter(torch.ones(1))]}])
    set_lr(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]


@pytest.mark.parametrize(("max_norm", "expected"), [(1.0, 1.0), (None, 5.0)])
def test_clipping(max_norm: float | None, expected: float) -> None:
    fabric = build_fabric(DeviceConfig(accelerator="cpu"))
    layer = nn.Linear(2, 1, bias=False)
    module, optimizer = fabric.setup(layer, sgd(layer.parameters(), lr=0.1))
    layer.weight.grad = torch.tensor([[3.0, 4.0]])
    clip_gradients(fabric, module, optimizer, max_norm=max_norm)
    assert float(layer.weight.grad.norm()) == pytest.approx(expected, rel=1e-4)


def test_adamw_decays_weights_apart_from_the_gradient() -> None:
    parameter = nn.Parameter(torch.tensor([1.0]))
    optimizer = adamw([parameter], lr=0.1, weight_decay=0.5)
    parameter.grad = torch.tensor([2.0])
    optimizer.step()
    # the decay takes 0.1 * 0.5 of the weight, Adam's first step is the learning rate whatever the gradient
    assert parameter.item() == pytest.approx(1 - 0.05 - 0.1)


def test_a_groups_own_factor_multiplies_its_rate() -> None:
    weights = [nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))]
    optimizer = sgd([{"params": weights[:1]}, {"params": weights[1:], "lr_factor": 10.0}], lr=1.0)
    set_lr(optimizer, 0.02)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.02, 0.2])
