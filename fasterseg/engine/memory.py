"""The most memory that a process has used so far, for the logs of stages and the benchmarks."""

import sys

import torch

_BYTES_PER_KIB = 1024


def peak_memory_bytes(device: torch.device) -> int | None:
    """The peak of the memory in use since the process started.

    Args:
        device: On CUDA, what PyTorch's tensors took there; else what the whole process took of the machine's memory.

    Returns:
        Bytes; None where the system does not tell.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * _BYTES_PER_KIB
