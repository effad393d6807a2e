"""One run at a time per store directory."""

from __future__ import annotations

import fcntl
import getpass
import json
import os
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.processes.identity import ProcessIdentity
from zoetrope.infra.processes.survivors import LOCK_NAME, end_survivors


class RunLock:
    """Context manager that holds `DIR/lock`; a second holder gets an error that names the first.

    The kernel drops the lock with its holder, however that ends. A forked child keeps it, so when the noted
    holder is dead, what it left running is ended first.

    Args:
        state_directory: `--store DIR`; made when absent.
        command: what the holder does, for the message to the second.

    Raises:
        ZoetropeError: on entering, when another process holds the lock (with its user, pid, host, start,
            command), or the directory cannot be written.
    """

    def __init__(self, state_directory: Path, command: str) -> None:
        self._directory = state_directory
        self._path = state_directory / LOCK_NAME
        self._command = command
        self._locked: IO[str] | None = None
        self._note: IO[str] | None = None

    def __enter__(self) -> RunLock:
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._path.touch()
            self._locked = self._path.open()
            if not self._take() and not (self._holder_is_dead() and self._take()):
                self._locked.close()
                raise self._in_use()
            # Kept open for writing: by that, survivors that were forked from this process are known.
            self._note = self._path.open("r+", encoding="utf-8")
            self._write_note()
        except OSError as error:
            self._release()
            raise ZoetropeError(
                f"store {self._directory}: cannot be locked: {error.strerror or error}",
                "choose a directory on a local disk that you can write to, with --store DIR",
            ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._note is not None:
            self._note.truncate(0)
        self._release()

    def _take(self) -> bool:
        assert self._locked is not None
        try:
            fcntl.flock(self._locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _release(self) -> None:
        # Unlocked and not only closed: a forked child may still have the file open.
        if self._note is not None and self._locked is not None:
            fcntl.flock(self._locked, fcntl.LOCK_UN)
        for stream in (self._note, self._locked):
            if stream is not None:
                stream.close()

    def _holder_is_dead(self) -> bool:
        """Whether the noted holder is gone and only its children keep the lock; these are ended."""
        note = self._read_note()
        holder = _identity(note) if note else None
        if holder is None or not holder.here() or holder.alive():
            return False
        return bool(end_survivors(self._directory, lambda _: None))

    def _write_note(self) -> None:
        assert self._note is not None
        note = {
            **ProcessIdentity.present().model_dump(),
            "user": _user_name(),
            "command": self._command,
            "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        }
        self._note.truncate(0)
        self._note.write(json.dumps(note) + "\n")
        self._note.flush()

    def _read_note(self) -> dict[str, Any]:
        return _read_note(self._path)

    def _in_use(self) -> ZoetropeError:
        note = self._read_note()
        who = (
            f"{note.get('user')} pid {note.get('pid')} on {note.get('host')} since {note.get('started')}"
            f" ({note.get('command')})"
            if note
            else "another process"
        )
        return ZoetropeError(
            f"store {self._directory} is in use by {who}",
            "wait until it has ended, end it, or work in another directory with --store DIR",
            retryable=True,
        )


def running_holder(state_directory: Path) -> dict[str, Any]:
    """Who works in a state directory, without asking for its lock: {pid, host, created, user, command, started}.

    Empty where nobody does. A process on another machine counts as running, since it cannot be seen from here.
    """
    note = _read_note(state_directory / LOCK_NAME)
    if not note:
        return {}
    holder = _identity(note)
    return note if not holder.here() or holder.alive() else {}


def _read_note(path: Path) -> dict[str, Any]:
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # taken this moment: the holder has not written yet
    return note if isinstance(note, dict) else {}


def _identity(note: dict[str, Any]) -> ProcessIdentity:
    return ProcessIdentity(**{key: note[key] for key in ("pid", "host", "created")})


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user id often has no name
        return str(os.getuid())
