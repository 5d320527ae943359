"""Devices, precision and randomness: one Lightning Fabric for every loop, one way to seed and to restore a seed."""

import platform
import random
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from lightning_fabric import Fabric
from pydantic import Field
from torch import nn

from fasterseg.engine.config import Section

Precision = Literal["32-true", "bf16-mixed"]


class DeviceConfig(Section):
    """What a stage runs on: the `device` part of its section.

    Attributes:
        accelerator: `cpu`, `cuda`, or `auto` for CUDA where there is one.
        devices: How many devices; one process each.
        precision: Number format of the forward and backward pass.
        threads: CPU threads of PyTorch; null for all cores. Small networks are fastest with 1 where anything else runs.
    """

    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    devices: int = 1
    precision: Precision = "32-true"
    threads: Annotated[int, Field(ge=1)] | None = None


def build_fabric(config: DeviceConfig) -> Fabric:
    """The Fabric that the stage's models, optimizers and batches go through, started.

    Raises:
        ValueError: CUDA is asked for and there is none, or fewer devices than asked for.
    """
    accelerator: str = config.accelerator
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if accelerator == "cuda" and available < config.devices:
        raise ValueError(
            f"device.accelerator is cuda with {config.devices} device(s), but PyTorch finds {available}; "
            "use accelerator cpu, fewer devices, or install a PyTorch build for your GPU"
        )
    if accelerator == "auto":
        accelerator = "cuda" if available >= config.devices else "cpu"
    fabric = Fabric(accelerator=accelerator, devices=config.devices, precision=config.precision)
    fabric.launch()
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    return fabric


def use_channels_last(module: nn.Module) -> None:
    """Stores the weights of convolutions channels last, which CPUs and tensor cores compute faster with.

    Feed such a module images of the same memory format; values and checkpoints are the same either way.
    """
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def seed_everything(seed: int) -> None:
    """Seeds Python, NumPy and PyTorch (all devices)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def random_state() -> dict[str, Any]:
    """The state of all random generators as tensors and plain values, for a checkpoint."""
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
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore_random_state(state: dict[str, Any]) -> None:
    """Sets all random generators to what `random_state` recorded; states of absent devices are left out."""
    random.setstate(state["python"])
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state.get("cuda", ())) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


def processor_name() -> str:
    """The processor's model name; `platform.processor` is empty on many Linux systems."""
    cpu_info = Path("/proc/cpuinfo")
    if cpu_info.is_file():
        for line in cpu_info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
