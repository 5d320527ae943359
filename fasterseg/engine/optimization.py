"""Optimizers and learning rates: SGD as published, AdamW for short schedules, schedules as functions of the step.

Such a schedule has no state to save: a resumed run has the learning rates of an uninterrupted one.
"""

import math

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.optim.optimizer import ParamsT


def sgd(parameters: ParamsT, *, lr: float, momentum: float = 0.9, weight_decay: float = 5e-4) -> torch.optim.SGD:
    """Stochastic gradient descent with momentum, all parameters updated in one fused pass."""
    return torch.optim.SGD(parameters, lr=lr, momentum=momentum, weight_decay=weight_decay, fused=True)


def adamw(parameters: ParamsT, *, lr: float, weight_decay: float = 5e-4) -> torch.optim.AdamW:
    """Adam with decoupled weight decay, all parameters updated in one fused pass.

    It learns rare, thin classes in far fewer steps than SGD does, which is what a short schedule needs.

    Source: Loshchilov and Hutter, ICLR 2019.
    """
    return torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay, fused=True)


def exponential_lr(base_lr: float, *, decay: float, epoch: int) -> float:
    """The learning rate of an epoch (counted from 0) if each epoch multiplies it by `decay`."""
    return base_lr * math.pow(decay, epoch)


def poly_lr(base_lr: float, *, step: int, total_steps: int, power: float = 0.9) -> float:
    """The learning rate of a step (counted from 0), which falls to 0 as (1 - step / total_steps) ** power."""
    return base_lr * math.pow(max(0.0, 1 - step / total_steps), power)


def warm_up_factor(step: int, warm_up_steps: int) -> float:
    """The factor of a step's learning rate with which it rises linearly over the first steps."""
    return min(1.0, (step + 1) / (warm_up_steps + 1))


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Sets the learning rate of all parameter groups; a group's `lr_factor`, if any, multiplies it."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_factor", 1.0)


def clip_gradients(
    fabric: Fabric, module: nn.Module, optimizer: torch.optim.Optimizer, *, max_norm: float | None
) -> None:
    """Scales the gradients down to a total norm of at most `max_norm`; None leaves them unchanged.

    Args:
        fabric: The Fabric that set up module and optimizer; it knows the gradients' precision.
        module: The module that `fabric.setup` returned.
        optimizer: The optimizer that `fabric.setup` returned.
        max_norm: The largest total norm.
    """
    if max_norm is not None:
        # a gradient that is not finite makes the next step's loss not finite, which the loop reports by head
        fabric.clip_gradients(module, optimizer, max_norm=max_norm, error_if_nonfinite=False)
