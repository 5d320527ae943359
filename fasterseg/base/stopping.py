"""Stopping on Ctrl-C, SIGTERM and SIGHUP: orderly after the first signal, at once after the second.

While a program runs, `listening` turns the three signals into the exception `Stopped`. A loop that can save its state
runs inside `deferring`: there the first signal is only recorded, and the loop stops after its current step. A second
signal ends the process at once. Files are complete even then, see `fasterseg.base.files`.
"""

import errno
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
# a terminal sends Ctrl-C to torchrun and to its processes, and torchrun passes it on: both are one request
_SAME_REQUEST_S = 0.5


class Stopped(BaseException):
    """The program was asked to stop. Not an `Exception`, so that error handlers do not catch it.

    Attributes:
        signal: The signal that was received.
        message: How far the program got, and how to resume it.
    """

    def __init__(self, number: int, message: str | None = None) -> None:
        self.signal = signal.Signals(number)
        self.message = message or (
            f"stopped by {self.signal.name}; every file that is there is whole: run the same command again to go on"
        )
        super().__init__(self.message)

    @property
    def exit_code(self) -> int:
        """What shells expect after a signal: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP."""
        return 128 + self.signal


class StopRequest:
    """Records whether a signal asked the program to stop.

    Attributes:
        signal: The first signal that was received; None before that.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._received_s = 0.0
        self._deferred = 0

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """The handler of the signals."""
        now = time.monotonic()
        if self.signal is not None:
            if now - self._received_s > _SAME_REQUEST_S:
                _end_at_once(number)
            return
        self.signal, self._received_s = number, now
        if number == getattr(signal, "SIGHUP", None):
            _leave_dead_terminal()
        if not self._deferred:
            raise Stopped(number)
        _print_from_handler(
            f"{signal.Signals(number).name}: finishes the step, saves and ends; a second signal ends it at once"
        )

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """While the block runs, the first signal is only recorded; `Stopped` is raised after the block."""
        self._deferred += 1
        try:
            yield
        finally:
            self._deferred -= 1
        if self.signal is not None and not self._deferred:
            raise Stopped(self.signal)


_current: StopRequest | None = None


@contextmanager
def listening() -> Iterator[StopRequest]:
    """While the block runs, the signals raise `Stopped` in it; a nested call changes nothing.

    Only the main thread receives signals; in another thread this does nothing. A signal that is ignored, as under
    `nohup`, stays ignored.
    """
    global _current
    if _current is not None:
        yield _current
        return
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    _current = request
    before: dict[int, Any] = {}
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, request.handle)
    try:
        yield request
    finally:
        _current = None
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


@contextmanager
def deferring() -> Iterator[StopRequest]:
    """While the block runs, a signal is only recorded in the yielded request, which the block has to check."""
    with listening() as request, request.deferred():
        yield request


def leave_stopping_to_parent() -> None:
    """Makes a worker process ignore signals to the whole process group; it ends when its parent ends it.

    The parent can then still receive the worker's results, finish its step and end its workers.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    # exit code 0: the parent may be in the middle of a step
    signal.signal(signal.SIGTERM, lambda _number, _frame: os._exit(0))


def _end_at_once(number: int) -> None:
    for child in multiprocessing.active_children():
        child.kill()
    os._exit(128 + number)


def _leave_dead_terminal() -> None:
    """Redirects the streams of a closed terminal to the null device; writing to them would fail."""
    import termios

    for stream in (0, 1, 2):
        try:
            termios.tcgetattr(stream)
        except termios.error as error:
            if error.args[0] == errno.EIO:
                null_device = os.open(os.devnull, os.O_RDWR)
                os.dup2(null_device, stream)
                os.close(null_device)


def _print_from_handler(text: str) -> None:
    """Prints from within a signal handler; of several processes only the first prints."""
    if (os.environ.get("RANK") or os.environ.get("LOCAL_RANK") or "0") == "0":
        try:
            os.write(2, f"\n{text}\n".encode())
        except OSError:
            return
