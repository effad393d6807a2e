"""SIGTERM in the first process of a container, which ignores it until it says otherwise."""

from __future__ import annotations

import os
import signal

EXIT_TERMINATED = 128 + signal.SIGTERM
"""What shells and Kubernetes say of a process that SIGTERM ended, and we of one that ended well because of it."""


def end_on_sigterm(status: int) -> None:
    """From now on SIGTERM ends the process at once, with this exit status and nothing tidied up."""
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(status))
