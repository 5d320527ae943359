"""What becomes of memory that PyTorch frees on a CPU: it stays with the process, for the next call to use.

PyTorch asks the C library for every map anew. Of large ones glibc gives the memory back to the system when they are
freed, so that the next call has to fetch it page by page; at 512×1024 that was 26,000 page faults and 40 of 310 ms.
Worse for a table is that glibc decides by what the process did before: the same operator then costs more or less in a
network than alone. ONNX Runtime and OpenVINO keep memory of their own and are free of this.
"""

import ctypes
import platform
from functools import cache

# of glibc's malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_NEVER = -1


@cache
def keep_freed_memory() -> str:
    """Makes glibc keep what is freed until the process ends; another C library stays as it is.

    It takes some calls until no memory is fetched any more: what is cut off to align a map fills glibc's caches of
    small pieces before it joins its neighbours again.

    Returns:
        The allocator and whether it keeps memory, to be recorded beside times.
    """
    library, version = platform.libc_ver()
    if library != "glibc":
        return f"that of {platform.system()}"
    mallopt = ctypes.CDLL(None).mallopt
    kept = mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, _NEVER)
    return f"glibc {version}, {'keeps' if kept else 'returns'} freed memory"
