import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fasterseg.base.stopping import SIGNALS, Stopped, deferring, listening

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_a_program_with_a_word_on_how_to_go_on(number: signal.Signals, code: int) -> None:
    with pytest.raises(Stopped) as caught, listening():
        os.kill(os.getpid(), number)
        time.sleep(5)
    assert caught.value.exit_code == code
    assert f"stopped by {number.name}" in caught.value.message and "same command again" in caught.value.message


def test_a_loop_sees_the_signal_and_ends_by_itself(capfd: pytest.CaptureFixture[str]) -> None:
    steps = 0
    with pytest.raises(Stopped, match="after 3 steps"), deferring() as request:
        while request.signal is None:
            steps += 1
            if steps == 3:
                os.kill(os.getpid(), signal.SIGTERM)
        assert request.signal == signal.SIGTERM
        raise Stopped(request.signal, f"after {steps} steps")
    assert "SIGTERM: finishes the step" in capfd.readouterr().err


def test_a_signal_that_the_loop_did_not_see_ends_the_block() -> None:
    with pytest.raises(Stopped), deferring():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)


def test_handlers_are_given_back() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with listening(), deferring():
        assert signal.getsignal(signal.SIGTERM) is not before[1]
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with listening():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_other_threads_listen_to_nothing() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def work() -> None:
        with deferring() as request:
            seen.append(request.signal)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [None] and signal.getsignal(signal.SIGTERM) is before


def run_and_signal(code: str, *numbers: int, pause_s: float = 0.7) -> tuple[int, str, float]:
    """Exit code, output and time to the end of a program that gets those signals after its first line."""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    process.stdout.readline()
    started_s = time.monotonic()
    for index, number in enumerate(numbers):
        time.sleep(pause_s if index else 0)
        process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    return process.returncode, output, time.monotonic() - started_s


LOOP = """
import time
from fasterseg.base.stopping import deferring
with deferring():
    print("runs", flush=True)
    for _ in range(40):
        time.sleep(0.1)
"""


def test_a_second_signal_ends_it_at_once_and_its_echo_does_not() -> None:
    code, _, duration_s = run_and_signal(LOOP, signal.SIGINT, signal.SIGTERM)
    assert code == 143 and duration_s < 2
    code, output, duration_s = run_and_signal(LOOP, signal.SIGINT, signal.SIGINT, pause_s=0.05)
    assert code == 1 and "Stopped" in output and duration_s > 2


def test_a_closed_terminal_does_not_break_what_is_said() -> None:
    code = (
        "import os, pty, sys, signal, time\n"
        "pid, terminal = pty.fork()\n"
        "if pid == 0:\n"
        "    from fasterseg.base.stopping import deferring, Stopped\n"
        "    try:\n"
        "        with deferring() as request:\n"
        "            print('runs', flush=True)\n"
        "            while request.signal is None: time.sleep(0.01)\n"
        "            print('still here', flush=True)\n"
        "    except Stopped as stopped:\n"
        "        os._exit(stopped.exit_code)\n"
        "    os._exit(1)\n"
        "assert os.read(terminal, 4) == b'runs'\n"
        "os.close(terminal)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 129, ended.stderr
