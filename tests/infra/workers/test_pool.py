"""Worker processes: order, errors, and nothing left behind."""

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.workers import map_in_processes


@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_the_order_of_the_items(workers: int) -> None:
    assert list(map_in_processes(math.factorial, list(range(20)), workers)) == [math.factorial(n) for n in range(20)]


def test_an_error_reaches_the_caller() -> None:
    with pytest.raises(ValueError, match="negative"):
        list(map_in_processes(math.factorial, [1, -1, 2], 2))


def test_printing_does_not_disturb_the_answers() -> None:
    assert list(map_in_processes(print, ["a", "b"], 2)) == [None, None]


def test_a_killed_worker_is_one_retryable_message() -> None:
    with pytest.raises(ZoetropeError, match="ended with code") as caught:
        list(map_in_processes(os._exit, [9, 9], 2))
    assert caught.value.retryable


def runs(pid: str) -> bool:
    """Whether a process is there; a dead one that nobody has waited for yet has no command line."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False


def test_workers_end_when_their_caller_is_killed(tmp_path: Path) -> None:
    program = (
        "import os, pathlib, time\n"
        "from zoetrope.infra.workers import map_in_processes\n"
        "results = map_in_processes(len, ['a'] * 100_000, 2)\n"
        "next(results)\n"
        "print('running', flush=True)\n"
        "time.sleep(60)\n"
    )
    caller = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, start_new_session=True)
    assert caller.stdout is not None
    caller.stdout.readline()
    children = Path(f"/proc/{caller.pid}/task/{caller.pid}/children").read_text().split()
    for task in Path(f"/proc/{caller.pid}/task").iterdir():
        children += (task / "children").read_text().split()
    assert children
    caller.send_signal(signal.SIGKILL)
    caller.wait()
    deadline = time.monotonic() + 20
    while any(runs(child) for child in children):
        assert time.monotonic() < deadline, f"left running: {children}"
    caller.stdout.close()
