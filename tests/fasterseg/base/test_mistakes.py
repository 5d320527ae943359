"""Whose mistake an error is, by where its traceback ends: in this process, in a pool's, and in a data loader's."""

import errno
import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from fasterseg.base.console import format_duration
from fasterseg.base.images import read_image
from fasterseg.base.mistakes import message_for_user
from fasterseg.base.yamlfile import load_yaml, read_yaml


def caught(act: Callable[[], object]) -> BaseException:
    with pytest.raises(Exception) as info:  # noqa: B017, PT011
        act()
    return info.value


def test_what_is_raised_on_purpose_is_the_users() -> None:
    assert message_for_user(caught(lambda: load_yaml("a: *b", "x.yaml"))) is not None
    assert message_for_user(caught(lambda: read_yaml(Path("absent.yaml")))) == "no file at absent.yaml"


@pytest.mark.parametrize(
    "act",
    [
        lambda: format_duration("long"),  # type: ignore[arg-type]  # TypeError of an operation of ours
        lambda: json.loads("{"),  # ValueError of a library
        lambda: int("one"),  # ValueError of an operation
        lambda: {}["absent"],
        lambda: (_ for _ in ()).throw(AssertionError("broken invariant")),
    ],
)
def test_everything_else_is_ours(act: Callable[[], object]) -> None:
    assert message_for_user(caught(act)) is None


def test_what_the_system_refuses_is_the_users(tmp_path: Path) -> None:
    assert str(message_for_user(caught(lambda: tmp_path.read_text()))).startswith(f"{tmp_path}: Is a directory; name")
    full = OSError(errno.ENOSPC, "No space left on device", "runs/last.pt")
    assert str(message_for_user(full)).startswith("runs/last.pt: No space left on device; free some")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 7.3 TiB for an array"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    ],
)
def test_too_little_memory_is_told(error: BaseException) -> None:
    message = str(message_for_user(error))
    assert message.startswith("out of memory: ") and "llocate" in message and "use smaller images" in message
    assert message_for_user(RuntimeError("shapes differ")) is None


@pytest.mark.parametrize(
    ("job", "argument", "message"),
    [
        (read_yaml, Path("absent.yaml"), "no file at absent.yaml"),
        (format_duration, "long", None),
    ],
)
def test_an_error_of_a_pools_process(job: Callable[[object], object], argument: object, message: str | None) -> None:
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        error = caught(pool.submit(job, argument).result)
    assert message_for_user(error) == message


class Images(torch.utils.data.Dataset[object]):
    def __init__(self, read: Callable[[Path], object], path: Path) -> None:
        self.read, self.path = read, path

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> object:
        return self.read(self.path)


@pytest.mark.parametrize(
    ("read", "message"), [(read_image, "image cannot be read: {}; it is damaged"), (json.loads, None)]
)
def test_an_error_of_a_loaders_process(tmp_path: Path, read: Callable[[Path], object], message: str | None) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(b"no image")
    error = caught(lambda: list(DataLoader(Images(read, file), num_workers=1)))
    told = message_for_user(error)
    assert told is None if message is None else str(told).startswith(message.format(file))
