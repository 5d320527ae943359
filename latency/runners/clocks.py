"""The clocks of a CUDA device, to be recorded beside its times; they are read, never set."""

import shutil
import subprocess

import torch

_QUERIES = ("clocks.sm", "clocks.mem", "clocks.max.sm", "clocks.max.mem")
_PATIENCE_S = 10


def read_clocks_mhz() -> dict[str, int]:
    """Present and highest clocks of PyTorch's present device, by nvidia-smi's names, in MHz.

    Empty where there is no such device, or nvidia-smi is absent or cannot tell.
    """
    program = shutil.which("nvidia-smi")
    if program is None or not torch.cuda.is_available():
        return {}
    command = [
        program,
        f"--id={_device_id()}",
        f"--query-gpu={','.join(_QUERIES)}",
        "--format=csv,noheader,nounits",
    ]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=True).stdout
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return {}
    values = [value.strip() for value in answer.split(",")]
    # a clock that a device does not tell is "[N/A]"
    return {name: int(value) for name, value in zip(_QUERIES, values, strict=False) if value.isdigit()}


def _device_id() -> str:
    """What nvidia-smi calls PyTorch's present device: it knows nothing of CUDA_VISIBLE_DEVICES and CUDA's own order."""
    return f"GPU-{torch.cuda.get_device_properties(torch.cuda.current_device()).uuid}"
