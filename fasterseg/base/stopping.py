"""Ending on Ctrl-C, SIGTERM and SIGHUP: in order, with a word on how to go on, and at once when asked twice.

`listening` turns the three signals into `Stopped` for as long as a program runs. A loop that can save its state puts
itself into `deferring`: the first signal is then only noted, and the loop ends by itself after its step. A second
signal ends the process at once; files are whole then too, see `fasterseg.base.files`.
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
# a terminal sends Ctrl-C to torchrun and to its processes, and torchrun passes it on: that is one request
_SAME_REQUEST_S = 0.5


class Stopped(BaseException):
    """The program was asked to end. It is no `Exception`: whoever handles errors does not handle this.

    Attributes:
        signal: The signal that asked.
        message: How far it came, and how to go on.
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
    """Whether somebody asked for the end.

    Attributes:
        signal: The first signal that came; None when none has.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._at_s = 0.0
        self._deferred = 0

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """The handler of the signals."""
        now = time.monotonic()
        if self.signal is not None:
            if now - self._at_s > _SAME_REQUEST_S:
                _end_at_once(number)
            return
        self.signal, self._at_s = number, now
        if number == getattr(signal, "SIGHUP", None):
            _leave_dead_terminal()
        if not self._deferred:
            raise Stopped(number)
        _say(f"{signal.Signals(number).name}: finishes the step, saves and ends; a second signal ends it at once")

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """While the block runs, the first signal is only noted; one that the block did not see ends it."""
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
    """While the block runs, the signals raise `Stopped` in it; where the program listens already, nothing changes.

    Signals reach the main thread alone; in another one there is nothing to listen to. A signal that is ignored, as
    `nohup` has it, stays ignored.
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
    """While the block runs, a signal is only noted, in what this yields: the block ends by itself when it sees it."""
    with listening() as request, request.deferred():
        yield request


def leave_stopping_to_parent() -> None:
    """Has a worker process end when its parent ends it, and not when a signal goes to the whole group of processes.

    The parent then still gets what the worker has made, finishes its step and ends its workers.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    # without an error: the parent may be in the middle of a step
    signal.signal(signal.SIGTERM, lambda _number, _frame: os._exit(0))


def _end_at_once(number: int) -> None:
    for child in multiprocessing.active_children():
        child.kill()
    os._exit(128 + number)


def _leave_dead_terminal() -> None:
    """Sends to nowhere what would go to a terminal that has been closed; writing there fails."""
    import termios

    for stream in (0, 1, 2):
        try:
            termios.tcgetattr(stream)
        except termios.error as error:
            if error.args[0] == errno.EIO:
                nowhere = os.open(os.devnull, os.O_RDWR)
                os.dup2(nowhere, stream)
                os.close(nowhere)


def _say(text: str) -> None:
    """Says something from within a signal's handler, in the first of several processes."""
    if (os.environ.get("RANK") or os.environ.get("LOCAL_RANK") or "0") == "0":
        try:
            os.write(2, f"\n{text}\n".encode())
        except OSError:
            return
