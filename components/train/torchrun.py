"""torchrun under supervision, with the exit status of what went wrong first: torchrun's own is 1 whatever happened.

python -m zoetrope.components.train.torchrun TORCHRUN-ARGUMENTS
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from zoetrope.components.train.failures import Failure, first_cause, oom_kills, read_notes
from zoetrope.infra.errors import EXIT_RETRYABLE, ZoetropeError
from zoetrope.infra.signals import EXIT_TERMINATED, end_on_sigterm

if TYPE_CHECKING:
    from zoetrope.components.train.supervisor import Limits, Supervisor

RERUN = "run it again: training goes on from its last state; the stacks of all ranks are in the job's log"


def main(arguments: Sequence[str], limits: Limits | None = None) -> int:
    """Runs torchrun; returns the exit status.

    Args:
        arguments: of torchrun.
        limits: how long ranks may be silent.
    """
    # Importing PyTorch takes seconds, in which nothing has begun that would have to be ended well.
    end_on_sigterm(EXIT_TERMINATED)
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    killed_before = oom_kills()
    with _supervised(limits) as supervisor:
        try:
            run.main(list(arguments))
        except ChildFailedError as error:
            codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
            print(f"zoetrope: workers ended with exit status {codes}", file=sys.stderr)  # noqa: T201
            supervisor.end()  # it may have ended the ranks, and be about to say why
            killed = oom_kills()
            starved = None if killed is None or killed_before is None else killed > killed_before
            failure = first_cause([*read_notes(supervisor.folder), *_seen(supervisor)], codes, starved)
            _tell(failure, arguments)
            return failure.exit_code
        except SignalException as error:
            print(f"zoetrope: {error}", file=sys.stderr)  # noqa: T201
            return EXIT_TERMINATED
    return 0


@contextmanager
def _supervised(limits: Limits | None) -> Iterator[Supervisor]:
    """Watches the processes that this one starts meanwhile."""
    from zoetrope.components.train.supervisor import Supervisor
    from zoetrope.model.training.heartbeat import FOLDER

    with tempfile.TemporaryDirectory(prefix="zoetrope-ranks-") as folder:
        os.environ[FOLDER] = folder
        supervisor = Supervisor(Path(folder), limits)
        supervisor.start()
        try:
            yield supervisor
        finally:
            supervisor.end()
            del os.environ[FOLDER]


def _seen(supervisor: Supervisor) -> list[Failure]:
    """What the supervisor has ended the ranks for."""
    if supervisor.verdict is None:
        return []
    return [Failure(-1, time.monotonic(), supervisor.verdict.headline, RERUN, EXIT_RETRYABLE, own=True, restart=True)]


def _tell(failure: Failure, arguments: Sequence[str]) -> None:
    """Says why, here and where the step looks for it; what only others know is left to them."""
    from zoetrope.components.train.job import TrainingJob
    from zoetrope.infra.references import canonical_json

    print(f"zoetrope: {failure.headline}", file=sys.stderr, flush=True)  # noqa: T201
    job = TrainingJob.of_arguments(arguments)
    if job is None or not failure.own:
        return
    headline = failure.headline if failure.headline.startswith(f"{job.step}: ") else f"{job.step}: {failure.headline}"
    said = {"headline": headline, "hint": failure.hint, "retryable": failure.retryable, "restart": failure.restart}
    try:
        job.open_store().put_bytes(job.failure, canonical_json(said))
    except (OSError, ZoetropeError) as error:  # where the store is full or away the log still has it
        print(f"zoetrope: the failure could not be recorded: {error}", file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
