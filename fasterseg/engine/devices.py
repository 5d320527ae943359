"""Devices, precision and randomness: one Lightning Fabric for every loop, one way to seed and to restore a seed."""

import atexit
import os
import random
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import nn

from fasterseg.base.console import CONSOLE
from fasterseg.base.devices import FABRIC_PRECISIONS, DeviceConfig
from fasterseg.base.machine import available_cores, crowding

# how long processes wait for the first one, which checks data and predicts test images alone; one that has died is
# noticed at once
PATIENCE = timedelta(hours=2)


def build_fabric(config: DeviceConfig) -> Fabric:
    """The Fabric that the stage's models, optimizers and batches go through, started.

    With several devices there is a process for each: those that `torchrun` started, or this one and further ones that
    start here and run the same command line. Only the first one talks to the console from here on.

    Raises:
        ValueError: There are fewer CUDA devices than asked for, or `devices` contradicts `torchrun`.
    """
    devices, machines = _layout(config.devices)
    accelerator: str = config.accelerator
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if accelerator == "auto":
        accelerator = "cuda" if available else "cpu"
    if accelerator == "cuda" and available < devices:
        raise ValueError(
            f"device.accelerator is {config.accelerator} with {devices} device(s), but PyTorch finds {available}; "
            "use accelerator cpu, fewer devices, or install a PyTorch build for your GPU"
        )
    # buffers are shared where they matter, after each epoch, instead of before each step
    several = DDPStrategy(timeout=PATIENCE, forward_sync_buffers=False)
    fabric = Fabric(
        accelerator=accelerator,
        strategy=several if devices * machines > 1 else "auto",
        devices=devices,
        num_nodes=machines,
        precision=FABRIC_PRECISIONS[config.precision],
    )
    fabric.launch()
    if fabric.world_size > 1:
        atexit.register(_leave)
    CONSOLE.quiet = not fabric.is_global_zero
    set_threads(config.threads, "device.threads")
    return fabric


def set_threads(threads: int | None, name: str) -> None:
    """Sets PyTorch's CPU threads in this process, and warns of more than there are cores for.

    Args:
        threads: How many; as many as there are available cores when None.
        name: The setting or option that says so.
    """
    crowded = crowding(threads, name)
    if crowded is not None:
        CONSOLE.print(f"warning: {crowded}")
    # PyTorch knows what it is pinned to, but not a container's quota
    chosen = threads or min(torch.get_num_threads(), available_cores())
    if chosen != torch.get_num_threads():
        torch.set_num_threads(chosen)


def _leave() -> None:
    """Ends the connections to the other processes in order; PyTorch aborts where their threads outlive Python."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _layout(devices: int) -> tuple[int, int]:
    """How many processes a machine has, and how many machines there are."""
    if not TorchElasticEnvironment.detect():
        return devices, 1
    here, everywhere = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
    if devices not in (1, here):
        raise ValueError(
            f"device.devices is {devices}, but torchrun started {here} process(es) on this machine; leave devices at "
            f"1, or start torchrun with --nproc_per_node {devices}"
        )
    return here, everywhere // here


def use_channels_last(module: nn.Module) -> None:
    """Stores the weights of convolutions channels last, which CPUs and tensor cores compute faster with.

    Feed such a module images of the same memory format; values and checkpoints are the same either way.
    """
    for parameter in module.parameters():
        if parameter.ndim == 4:
            # not `contiguous`, which leaves a 1×1 convolution's strides, and the processes' exchange then copies
            stored = torch.empty_like(parameter.data, memory_format=torch.channels_last)
            parameter.data = stored.copy_(parameter.data)


def seed_everything(seed: int) -> None:
    """Seeds Python, NumPy and PyTorch (all devices)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def random_state() -> dict[str, Any]:
    """The state of all random generators as tensors and plain values, for a checkpoint.

    Of GPUs it holds the one that this process runs on; the other processes' are in the same state.
    """
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": (
            str(name),
            torch.from_numpy(np.asarray(keys, np.int64)),
            int(position),
            int(has_gauss),
            float(cached),
        ),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["gpu"] = torch.cuda.get_rng_state()
    return state


def restore_random_state(state: dict[str, Any]) -> None:
    """Sets all random generators to what `random_state` recorded; a GPU's where there is one, there and here."""
    random.setstate(state["python"])
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and "gpu" in state:
        torch.cuda.set_rng_state(state["gpu"])
