"""torchrun, with the exit status of the worker that failed: torchrun's own is 1 whatever happened.

python -m zoetrope.components.train.torchrun TORCHRUN-ARGUMENTS
"""

from __future__ import annotations

import sys

from zoetrope.infra.errors import EXIT_RETRYABLE, EXIT_USER_ERROR
from zoetrope.infra.signals import end_on_sigterm


def main(arguments: list[str]) -> int:
    """Runs torchrun; returns the exit status."""
    # Importing PyTorch takes seconds, in which nothing has begun that would have to be ended well.
    end_on_sigterm(EXIT_RETRYABLE)
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    try:
        run.main(arguments)
    except ChildFailedError as error:
        codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
        print(f"zoetrope: workers ended with exit status {codes}", file=sys.stderr)  # noqa: T201
        return exit_status(list(codes.values()))
    except SignalException as error:
        print(f"zoetrope: {error}", file=sys.stderr)  # noqa: T201
        return EXIT_RETRYABLE
    return 0


def exit_status(codes: list[int]) -> int:
    """The status that tells most: a worker that knew why it stopped, before one that lost its peers for it."""
    for known in (EXIT_USER_ERROR, EXIT_RETRYABLE):
        if known in codes:
            return known
    # a worker that was killed by signal N has -N; shells and Kubernetes say 128 + N
    code = next((code for code in codes if code), 1)
    return 128 - code if code < 0 else code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
