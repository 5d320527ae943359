"""Cores that a process may use: its affinity, and the quota of its control group and of those around it."""

import os
from pathlib import Path

import pytest

from fasterseg.base import machine


@pytest.fixture
def cgroups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of 8 cores, none of them forbidden, and a folder for control groups."""
    monkeypatch.setattr(machine, "_CGROUPS", tmp_path)
    monkeypatch.setattr(machine, "_OWN_CGROUP", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    return tmp_path


def group(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text + "\n")


def test_without_limits_all_cores_count(cgroups: Path) -> None:
    assert machine.available_cores() == 8
    assert machine.runtime_threads(None) is None, "the runtime's own choice"
    (cgroups / "own").write_text("0::/none\n")
    assert machine.available_cores() == 8


def test_a_pinned_process_has_its_own_cores_only(cgroups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    assert machine.available_cores() == 1
    assert (machine.runtime_threads(None), machine.runtime_threads(2)) == (1, 2)


@pytest.mark.parametrize(
    ("quota", "cores"), [("200000 100000", 2), ("250000 100000", 3), ("1000 100000", 1), ("max 100000", 8)]
)
def test_the_quota_of_a_container(cgroups: Path, quota: str, cores: int) -> None:
    (cgroups / "own").write_text("0::/work/job\n")
    group(cgroups / "work" / "job", cpu__max=quota)
    group(cgroups / "work", cpu__max="max 100000")
    assert machine.available_cores() == cores


def test_the_tightest_of_the_groups_around_counts(cgroups: Path) -> None:
    (cgroups / "own").write_text("0::/work/job\n")
    group(cgroups / "work" / "job", cpu__max="400000 100000")
    group(cgroups / "work", cpu__max="150000 50000")
    assert machine.available_cores() == 3


@pytest.mark.parametrize(("quota", "cores"), [("150000", 2), ("-1", 8)])
def test_control_groups_of_the_first_version(cgroups: Path, quota: str, cores: int) -> None:
    (cgroups / "own").write_text("5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n")
    group(cgroups / "cpu,cpuacct", cpu__cfs_quota_us=quota, cpu__cfs_period_us="100000")
    assert machine.available_cores() == cores


def test_more_threads_than_cores_are_told(cgroups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.crowding(8, "--threads") is None and machine.crowding(None, "--threads") is None
    assert "--threads is 9, but this process may use 8 core(s); " in str(machine.crowding(9, "--threads"))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert "may use 1 core(s) of the machine's 8" in str(machine.crowding(2, "target.threads"))
