"""Runs a TorchX app on this machine."""

from __future__ import annotations

import copy
import json
import logging
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import psutil

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.launch.log_excerpt import cause, quoted, relevant_lines
from zoetrope.infra.signals import EXIT_TERMINATED

if TYPE_CHECKING:
    from torchx.schedulers.local_scheduler import LocalScheduler
    from torchx.specs import AppDef

SCHEDULER = "local_cwd"
POLL_SECONDS = 0.2
TAIL_BYTES = 65536


def run_local(app: AppDef, log_directory: Path, environment: Mapping[str, str] | None = None) -> None:
    """Runs all replicas with TorchX's `local_cwd` scheduler and waits for them.

    However this call ends, no process that the job started stays: on an exception (Ctrl-C, a SIGTERM that a
    handler turned into one, or the default SIGTERM, which is turned into `SystemExit(143)` here) the job is ended,
    first with SIGTERM, then with SIGKILL.

    Args:
        app: the job, e.g. made by `torchx.components.dist.torchrun`.
        log_directory: each replica writes stdout.log and stderr.log in `SESSION/APP/ROLE/REPLICA/` below it.
        environment: added to every role's environment; the role's own values win.

    Raises:
        ZoetropeError: a replica failed; holds the last lines of its log and the log's path.
    """
    from torchx.runner import Runner
    from torchx.specs import AppState

    app = copy.deepcopy(app)
    for role in app.roles:
        role.env = {**(environment or {}), **role.env}
    log_directory = log_directory.absolute()
    log_directory.mkdir(parents=True, exist_ok=True)
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    scheduler = _quiet_scheduler()
    with interruptible(), Runner("zoetrope", {SCHEDULER: lambda *_, **__: scheduler}) as runner:
        try:
            handle = runner.run(app, SCHEDULER, cfg={"log_dir": str(log_directory)})
            status = runner.wait(handle, wait_interval=POLL_SECONDS)
        finally:
            _end_rest(scheduler, before)
    if status is None or status.state != AppState.SUCCEEDED:
        raise _failure(app, log_directory, handle.rpartition("/")[2])


def _quiet_scheduler() -> LocalScheduler:
    """The scheduler, without the signal handlers that it leaves in place when it is made."""
    from torchx.schedulers.local_scheduler import create_scheduler

    logging.getLogger("torchx").setLevel(logging.WARNING)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    # Programs of this environment (torchrun) are found also where it was not activated.
    scheduler = create_scheduler("zoetrope", extra_paths=[str(Path(sys.executable).parent)])
    if threading.current_thread() is threading.main_thread():
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return scheduler


@contextmanager
def interruptible() -> Iterator[None]:
    """Turns a SIGTERM that would end this process on the spot into an exception, so that children are ended."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(EXIT_TERMINATED)

    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _end_rest(scheduler: LocalScheduler, before: set[int]) -> None:
    """Ends the job's processes. TorchX ends its replicas, but not what these started themselves."""
    started = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]
    scheduler.close()
    for process in started:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


def _failure(app: AppDef, log_directory: Path, app_id: str) -> ZoetropeError:
    """The error for a failed job, with the end of the first failed replica's log."""
    folder = log_directory / "zoetrope" / app_id
    report: dict[str, Any] = json.loads((folder / "SUCCESS").read_text(encoding="utf-8"))
    for role, replicas in report["roles"].items():
        for replica in replicas:
            if replica["exitcode"]:
                log = Path(replica["stderr"])
                lines = _tail(log) or _tail(Path(replica["stdout"]))
                return ZoetropeError(
                    f"{app.name}: replica {replica['replica_id']} of {role} {_ending(replica['exitcode'])}"
                    + cause(lines),
                    quoted(lines) + f"\n  -> all: {log.parent}",
                )
    return ZoetropeError(f"{app.name}: the job was ended from outside", f"its logs: {folder}", retryable=True)


def _ending(exit_code: int) -> str:
    if exit_code >= 0:
        return f"failed with exit status {exit_code}"
    name = signal.Signals(-exit_code).name
    return f"was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


def _tail(path: Path) -> list[str]:
    """The last lines of a log; of a torchrun log the last lines of its workers."""
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - TAIL_BYTES))
        return relevant_lines(stream.read().decode(errors="replace").splitlines())
