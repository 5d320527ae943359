"""The processor's name, for the record of measurements, and the number of cores this process may use."""

import math
import os
import platform
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")


def processor_name() -> str:
    """The processor's model name; `platform.processor` is empty on many Linux systems."""
    cpu_info = Path("/proc/cpuinfo")
    if cpu_info.is_file():
        for line in cpu_info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def available_cores() -> int:
    """Number of cores that this process may use: those it is pinned to, limited by a container's quota.

    `os.cpu_count` counts all cores of the machine. More threads than available cores wait for each other.
    """
    pinned = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = min((quota for folder in _own_cgroups() if (quota := _quota(folder)) is not None), default=math.inf)
    return max(1, min(pinned, math.ceil(quota) if math.isfinite(quota) else pinned))


def runtime_threads(asked: int | None) -> int | None:
    """The number of threads to set in a runtime whose default is all cores of the machine.

    Args:
        asked: Number of threads that the user asks for, if any.

    Returns:
        The number, or None to keep the runtime's default, which distinguishes physical from logical cores.
    """
    cores = available_cores()
    return asked or (cores if cores < (os.cpu_count() or 1) else None)


def crowding(threads: int | None, name: str) -> str | None:
    """A warning about more threads than available cores; None if there are enough cores.

    Args:
        threads: Number of threads that the user asks for.
        name: The setting or option that gives it.
    """
    cores = available_cores()
    if threads is None or threads <= cores:
        return None
    machine = os.cpu_count() or cores
    of_all = f" of the machine's {machine}" if machine > cores else ""
    return f"{name} is {threads}, but this process may use {cores} core(s){of_all}; threads beyond wait for each other"


def _own_cgroups() -> list[Path]:
    """The folders of this process's control groups and their parents, for cgroup versions 1 and 2."""
    if not _OWN_CGROUP.is_file():
        return []
    folders = []
    for line in _OWN_CGROUP.read_text(encoding="utf-8", errors="replace").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = _CGROUPS / controllers if controllers else _CGROUPS
        own = base / path.strip("/")
        folders += [folder for folder in (own, *own.parents) if folder.is_relative_to(base)]
    return folders


def _quota(folder: Path) -> float | None:
    """A control group's quota in cores; None if it has none."""
    newer, older = folder / "cpu.max", folder / "cpu.cfs_quota_us"
    if newer.is_file():
        quota, _, period = newer.read_text(encoding="utf-8").strip().partition(" ")
    elif older.is_file():
        quota = older.read_text(encoding="utf-8").strip()
        period = (folder / "cpu.cfs_period_us").read_text(encoding="utf-8").strip()
    else:
        return None
    if not (quota.isdigit() and period.isdigit() and int(quota) and int(period)):
        return None  # "max" or -1: no limit
    return int(quota) / int(period)
