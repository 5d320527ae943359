"""Devices, precision and randomness: a stage's Lightning Fabric, and seeding and restoring random generators."""

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

# timeout of the other processes while the first one alone checks data or predicts test images; a process that has died
# is noticed at once
PROCESS_TIMEOUT = timedelta(hours=2)


def build_fabric(config: DeviceConfig) -> Fabric:
    """The launched Fabric that sets up a stage's models and optimizers.

    With several devices there is one process for each. Either `torchrun` has started them, or this call starts the
    other processes, which run the same command line. From here on only the first process prints to the console.

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
    # buffers are broadcast after each epoch (`share_buffers`) instead of before each step
    several = DDPStrategy(timeout=PROCESS_TIMEOUT, forward_sync_buffers=False)
    fabric = Fabric(
        accelerator=accelerator,
        strategy=several if devices * machines > 1 else "auto",
        devices=devices,
        num_nodes=machines,
        precision=FABRIC_PRECISIONS[config.precision],
    )
    fabric.launch()
    if fabric.world_size > 1:
        atexit.register(_destroy_process_group)
    CONSOLE.quiet = not fabric.is_global_zero
    set_threads(config.threads, "device.threads")
    return fabric


def set_threads(threads: int | None, name: str) -> None:
    """Sets PyTorch's CPU threads in this process, and warns if they exceed the available cores.

    Args:
        threads: Number of threads; the number of available cores when None.
        name: Name of the setting or option, for the warning.
    """
    crowded = crowding(threads, name)
    if crowded is not None:
        CONSOLE.print(f"warning: {crowded}")
    # PyTorch respects CPU pinning, but not a container's quota
    chosen = threads or min(torch.get_num_threads(), available_cores())
    if chosen != torch.get_num_threads():
        torch.set_num_threads(chosen)


def _destroy_process_group() -> None:
    """Destroys the process group; PyTorch aborts if its threads outlive Python."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _layout(devices: int) -> tuple[int, int]:
    """Number of processes per machine, and number of machines."""
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
    """Stores convolution weights in channels-last memory format, which is faster on CPUs and tensor cores.

    Feed such a module images of the same memory format; values and checkpoints are the same either way.
    """
    for parameter in module.parameters():
        if parameter.ndim == 4:
            # `contiguous` would keep a 1×1 convolution's strides, and the exchange of gradients would then copy
            stored = torch.empty_like(parameter.data, memory_format=torch.channels_last)
            parameter.data = stored.copy_(parameter.data)


def seed_everything(seed: int) -> None:
    """Seeds Python, NumPy and PyTorch (all devices)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def random_state() -> dict[str, Any]:
    """The state of all random generators as tensors and plain values, for a checkpoint.

    For CUDA it holds the generator of this process's GPU; those of the other processes are in the same state.
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
    """Restores the states that `random_state` recorded; a GPU's only if it was recorded and there is a GPU."""
    random.setstate(state["python"])
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and "gpu" in state:
        torch.cuda.set_rng_state(state["gpu"])
