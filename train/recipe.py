"""Applies a section's settings to a training: batch norms, gradient checkpointing, optimizer, learning rate."""

from collections.abc import Iterator

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from fasterseg.engine.loop import Position
from fasterseg.engine.optimization import adamw, exponential_lr, poly_lr, sgd, warm_up_factor
from fasterseg.networks import Network
from fasterseg.networks.baseline import enable_memory_saving
from train.config import BaselineConfig, TrainConfig

_BACKBONE = "backbone."


def check_batch_norm(config: TrainConfig, fabric: Fabric) -> None:
    """Refuses synchronised batch norms on devices without them.

    Raises:
        ValueError: `batch_norm` is synchronized, and several processes train on a CPU.
    """
    if config.batch_norm == "synchronized" and fabric.world_size > 1 and fabric.device.type != "cuda":
        raise ValueError(
            f"batch_norm is synchronized, which PyTorch has for CUDA devices only, but {fabric.world_size} "
            f"processes train on {fabric.device.type}; set batch_norm to auto, local or frozen"
        )


def prepare_network(network: Network, config: TrainConfig, fabric: Fabric) -> None:
    """Prepares a network for the section's training; call this before Fabric sets the network up.

    Raises:
        ValueError: The network cannot be trained that way.
    """
    if config.memory_saving:
        enable_memory_saving(network)
    if config.batch_norm in ("auto", "synchronized") and fabric.world_size > 1 and fabric.device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]


def start_training(module: nn.Module, config: TrainConfig) -> None:
    """Puts a network into training mode; frozen batch norms keep their statistics."""
    module.train()
    if config.batch_norm == "frozen":
        for part in module.modules():
            if isinstance(part, _BatchNorm):
                part.eval()


def build_optimizer(network: Network, config: TrainConfig) -> torch.optim.Optimizer:
    """The optimizer that the section asks for, over all weights of the network."""
    groups = list(_parameter_groups(network, config))
    if config.optimizer == "adamw":
        return adamw(groups, lr=config.lr, weight_decay=config.weight_decay)
    return sgd(groups, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)


def learning_rate(config: TrainConfig, position: Position) -> float:
    """The learning rate of a step; for a baseline, that of its backbone."""
    if config.schedule == "exponential":
        rate = exponential_lr(config.lr, decay=config.lr_decay, epoch=position.epoch)
    else:
        rate = poly_lr(config.lr, step=position.step, total_steps=position.total_steps, power=config.poly_power)
    return rate * warm_up_factor(position.step, config.warm_up_steps)


def _parameter_groups(network: Network, config: TrainConfig) -> Iterator[dict[str, object]]:
    """One group of all parameters, or a baseline's backbone and its new layers."""
    if not isinstance(config, BaselineConfig):
        yield {"params": list(network.parameters())}
        return
    named = list(network.named_parameters())
    yield {"params": [parameter for name, parameter in named if name.startswith(_BACKBONE)]}
    new = [parameter for name, parameter in named if not name.startswith(_BACKBONE)]
    yield {"params": new, "lr_factor": config.new_layer_lr_factor}
