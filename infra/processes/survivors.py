"""Finds and ends the processes of a run, also those that left its session and outlived it."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil
from pydantic import ValidationError

from zoetrope.infra.processes.identity import ProcessIdentity

TOKEN_VARIABLE = "ZOETROPE_RUN_TOKEN"  # noqa: S105 - names a run, guards nothing
LOCK_NAME = "lock"
GRACE_SECONDS = 10.0  # TorchX gives its replicas as long
ROUNDS = 5  # a process may start another one while it is being ended


@dataclass(frozen=True)
class Ended:
    """A process that was ended: its pid, its command line and whether it had to be killed."""

    pid: int
    command: str
    killed: bool


def mark_environment(state_directory: Path, token: str = "") -> str:
    """Gives this process's later children a run token in their environment, notes it, and returns it.

    The token reaches every process that is started from here on, also in sessions of its own. The note
    `processes/TOKEN.json` says whose token it is.
    """
    token = token or uuid.uuid4().hex
    note = _notes(state_directory) / f"{token}.json"
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(ProcessIdentity.present().model_dump_json() + "\n", encoding="utf-8")
    os.environ[TOKEN_VARIABLE] = token
    return token


def end_survivors(
    state_directory: Path, log: Callable[[str], None], grace_seconds: float = GRACE_SECONDS
) -> list[Ended]:
    """Ends what earlier runs on this state directory left running.

    A run whose main process lives is left alone; so are other users' processes and runs of other machines.

    Args:
        state_directory: `--store DIR`.
        log: gets one line for every process that is ended.
        grace_seconds: time between SIGTERM and SIGKILL.
    """
    dead = {}
    for note in sorted(_notes(state_directory).glob("*.json")):
        try:
            owner = ProcessIdentity.model_validate_json(note.read_bytes())
        except (ValidationError, FileNotFoundError):
            continue  # being written, or cleared by another process at this moment
        if owner.here() and not owner.alive():
            dead[note.stem] = note
    ended = _end_all(lambda: _survivors(set(dead), state_directory), log, grace_seconds)
    for note in dead.values():
        note.unlink(missing_ok=True)
    return ended


def end_group(
    token: str, log: Callable[[str], None] | None = None, grace_seconds: float = GRACE_SECONDS
) -> list[Ended]:
    """Ends all descendants of this process and all other carriers of `token`, as after Ctrl-C."""

    def members() -> list[psutil.Process]:
        descendants = psutil.Process().children(recursive=True)
        known = {process.pid for process in descendants}
        return descendants + [process for process in _carriers({token}) if process.pid not in known]

    return _end_all(members, log or (lambda _: None), grace_seconds)


def _notes(state_directory: Path) -> Path:
    return state_directory / "processes"


def _survivors(tokens: set[str], state_directory: Path) -> list[psutil.Process]:
    """Carriers of dead runs' tokens, and processes forked from a dead holder of the lock.

    A forked process shows the environment that its parent was started with, so it carries no token; but it
    has the lock open for writing, as only a holder has.
    """
    found = _carriers(tokens) if tokens else []
    known = {process.pid for process in found}
    lock = (state_directory / LOCK_NAME).resolve()
    holder = _holder(lock)
    if holder is None or not holder.here() or holder.alive():
        return found
    return found + [each for each in _own_processes() if each.pid not in known and _has_open(each, lock)]


def _holder(lock: Path) -> ProcessIdentity | None:
    try:
        note = json.loads(lock.read_text(encoding="utf-8"))
        return ProcessIdentity(pid=note["pid"], host=note["host"], created=note["created"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _has_open(process: psutil.Process, path: Path) -> bool:
    try:
        return any(Path(file.path) == path and getattr(file, "mode", "r") != "r" for file in process.open_files())
    except (psutil.Error, OSError):
        return False


def _carriers(tokens: set[str]) -> list[psutil.Process]:
    return [process for process in _own_processes() if _token_of(process) in tokens]


def _own_processes() -> Iterable[psutil.Process]:
    """This user's processes without this one and those that it descends from."""
    user = os.getuid()
    spared = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    for process in psutil.process_iter():
        try:
            if process.pid not in spared and process.uids().real == user:
                yield process
        except psutil.Error:
            continue  # ended while we looked


def _token_of(process: psutil.Process) -> str:
    try:
        return process.environ().get(TOKEN_VARIABLE, "")
    except (psutil.Error, OSError):
        return ""


def _end_all(find: Callable[[], list[psutil.Process]], log: Callable[[str], None], grace_seconds: float) -> list[Ended]:
    ended: list[Ended] = []
    for _ in range(ROUNDS):
        found = [process for process in find() if process.is_running() and _command(process)]
        if not found:
            break
        commands = {process.pid: _command(process) for process in found}
        for process in found:
            _signal(process.terminate)
        stubborn = _wait(found, grace_seconds)
        for process in stubborn:
            _signal(process.kill)
        _wait(stubborn, grace_seconds)
        killed = {process.pid for process in stubborn}
        for pid, command in commands.items():
            log(f"{'killed' if pid in killed else 'ended'} process {pid}, left by an earlier run: {command}")
            ended.append(Ended(pid, command, pid in killed))
    return ended


def _wait(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Waits until all have ended and returns those that did not.

    Zombies count as ended: in a container often nobody reaps them, and they would cost the whole grace time.
    """
    deadline = time.monotonic() + seconds
    alive = [process for process in processes if _command(process)]
    while alive and time.monotonic() < deadline:
        psutil.wait_procs(alive, timeout=0.05)
        alive = [process for process in alive if _command(process)]
    return alive


def _signal(send: Callable[[], None]) -> None:
    try:
        send()
    except psutil.NoSuchProcess:
        return  # it was faster


def _command(process: psutil.Process) -> str:
    """The command line in one short line; empty for a zombie, which holds nothing any more."""
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return ""
        return " ".join(process.cmdline())[:200] or process.name()
    except psutil.Error:
        return ""
