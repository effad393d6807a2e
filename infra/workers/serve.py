"""The other end of `map_in_processes`: reads calls from standard input until it closes."""

from __future__ import annotations

import os
import pickle
import signal
import sys


def main() -> None:
    """Answers calls one by one; (False, result) or (True, exception)."""
    # Ctrl-C reaches the whole process group; the caller decides when its workers end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    calls = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not end up between the answers
    while True:
        try:
            function, item = pickle.load(calls)  # noqa: S301 - comes from our own process
        except EOFError:
            return
        try:
            answer = (False, function(item))
        except Exception as error:  # noqa: BLE001 - handed to the caller, which raises it
            answer = (True, error)
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    main()
