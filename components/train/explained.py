"""What an error of a training process means for the user."""

from __future__ import annotations

import os
import shutil
import sys
import time
import traceback
from pathlib import Path
from typing import NoReturn

import torch.distributed as dist

from zoetrope.components.train.failures import Failure, leave_note
from zoetrope.infra.errors import EXIT_RETRYABLE, EXIT_USER_ERROR, ZoetropeError
from zoetrope.infra.signals import EXIT_TERMINATED
from zoetrope.model.data import DamagedDataError
from zoetrope.model.training.faults import causes, no_space_left
from zoetrope.model.training.heartbeat import supervised_folder
from zoetrope.model.training.loop import StoppedError


def explained(error: Exception, step: str, state: Path, rank: int, at: float) -> Failure:
    """The failure of this process.

    Args:
        error: that ended it.
        step: that it worked for.
        state: folder of its states.
        rank: of it.
        at: when, on the machine's monotonic clock.
    """
    first = str(error).partition("\n")[0]
    if isinstance(error, ZoetropeError):
        return Failure(rank, at, error.headline, error.hint, error.exit_code, own=True)
    if no_space_left(error):
        place = next(each for each in (state, *state.parents) if each.is_dir())
        free = shutil.disk_usage(place).free / 1e6
        headline = f"{step}: disk full: {free:.1f} MB free in {place}: {first}"
        return Failure(rank, at, headline, "free some space, then run it again", EXIT_RETRYABLE, own=True)
    if isinstance(error, DamagedDataError):
        return Failure(rank, at, f"{step}: {error}", error.hint, EXIT_USER_ERROR, own=True)
    if isinstance(error, StoppedError):
        return Failure(rank, at, f"{step}: {error}", "run it again", EXIT_TERMINATED, own=False)
    lost = not isinstance(error, ValueError)  # which is the model's word for wrong settings and for divergence
    if lost and any(
        isinstance(each, (dist.DistError, ConnectionError)) or "gloo" in str(each) for each in causes(error)
    ):
        headline = f"{step}: a worker lost its peers: {first}"
        return Failure(rank, at, headline, "run it again", EXIT_RETRYABLE, own=False)
    status = EXIT_USER_ERROR if isinstance(error, ValueError) else 1
    return Failure(rank, at, f"{step}: {type(error).__name__}: {first}", "", status, own=True)  # 1: our mistake


def end_with(error: Exception, step: str, state: Path) -> NoReturn:
    """Says and notes why this process failed, and ends it with the exit status of that.

    Args:
        error: that ended it.
        step: that it worked for.
        state: folder of its states.
    """
    failure = explained(error, step, state, int(os.environ.get("RANK", "0")), time.monotonic())  # of torchrun
    leave_note(supervised_folder(), failure)
    if isinstance(error, ZoetropeError) or not failure.own:
        print(f"zoetrope: {failure.headline}\n  -> {failure.hint}", file=sys.stderr, flush=True)  # noqa: T201
    else:
        traceback.print_exception(error)
        print(f"zoetrope: {failure.headline}", file=sys.stderr, flush=True)  # noqa: T201
    # At once: the clean end of a process group waits for peers that may be gone.
    os._exit(failure.exit_code)
