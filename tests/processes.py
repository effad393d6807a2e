"""The processes of the tests: of one thread each, and none left running when a module of tests has ended.

Imported before anything that counts the machine's cores when it is loaded (numpy, torch).
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import psutil
import pytest

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # tests run side by side, and so do the processes that they start

MARK = "TESTS_STARTED_BY"
"""Environment variable that every process carries which a test of this process starts."""
os.environ[MARK] = str(os.getpid())
SHARED = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")
"""Of Python itself: one for the whole life of this process."""
SECONDS = 10.0
"""That a process may take which ends by itself."""


def leftovers() -> list[psutil.Process]:
    """Processes that tests of this process started and that still run, children of children included."""
    found = {process.pid: process for process in psutil.Process().children(recursive=True)}
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK) == str(os.getpid()):
                found[process.pid] = process
        except psutil.Error:
            continue
    return [process for process in found.values() if not _ends(process)]


def _ends(process: psutil.Process) -> bool:
    try:
        command = " ".join(process.cmdline())
        return process.status() == psutil.STATUS_ZOMBIE or any(name in command for name in SHARED)
    except psutil.Error:
        return True


@pytest.fixture(scope="module", autouse=True)
def nothing_left_running(request: pytest.FixtureRequest) -> Iterator[None]:
    """Ends what the tests of a module leave running, and says so as a failure."""
    yield
    _, left = psutil.wait_procs(leftovers(), SECONDS)
    left = [process for process in left if not _ends(process)]
    said = [f"{process.pid}: {' '.join(process.cmdline())[:200]}" for process in left]
    for process in left:
        process.kill()
    if said:
        pytest.fail(f"{request.node.nodeid} left running:\n" + "\n".join(said))
