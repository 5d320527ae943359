"""Peak memory of this process, for the logs of stages and the benchmarks."""

import sys

import torch

_BYTES_PER_KIB = 1024


def peak_memory_bytes(device: torch.device) -> int | None:
    """Peak memory since the process started.

    Args:
        device: For CUDA, the memory of PyTorch's tensors on it; else the resident memory of the whole process.

    Returns:
        Bytes; None on Windows, for the CPU.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * _BYTES_PER_KIB
