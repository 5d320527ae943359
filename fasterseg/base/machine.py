"""What machine this is, as far as figures depend on it."""

import platform
from pathlib import Path


def processor_name() -> str:
    """The processor's model name; `platform.processor` is empty on many Linux systems."""
    cpu_info = Path("/proc/cpuinfo")
    if cpu_info.is_file():
        for line in cpu_info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
