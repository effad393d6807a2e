"""Who a process is, so that a pid that was given out again is not taken for the one that was noted."""

from __future__ import annotations

import os
import socket

import psutil

from zoetrope.infra.config import StrictModel

# The kernel counts a start in clock ticks since boot; psutil turns that into seconds since the epoch.
SAME_START_SECONDS = 1.0


class ProcessIdentity(StrictModel):
    """A process on a machine.

    Attributes:
        pid: process id.
        host: name of the machine.
        created: when the process began, seconds since the epoch.
    """

    pid: int
    host: str
    created: float

    @classmethod
    def present(cls) -> ProcessIdentity:
        """This process."""
        return cls(pid=os.getpid(), host=socket.gethostname(), created=psutil.Process().create_time())

    def here(self) -> bool:
        """Whether it is (or was) a process of this machine, so that its absence can be seen."""
        return self.host == socket.gethostname()

    def alive(self) -> bool:
        """Whether it still runs on this machine; a zombie does not."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) < SAME_START_SECONDS
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False
