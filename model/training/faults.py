"""What an error means whatever library it comes from."""

from __future__ import annotations

import errno
from collections.abc import Iterator

_NO_SPACE = ("no space left on device", "os error 28", "disk quota exceeded", "os error 122")
"""safetensors (Rust) and PyTorch's zip writer raise errors of their own, with the system's words in them."""


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what led to it, the last first; parts of groups and of `CheckpointException` included."""
    waiting, seen = [error], set()
    while waiting:
        current = waiting.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        parts = getattr(current, "exceptions", None) or ()
        # torch.distributed.checkpoint: rank -> (error, where it was raised)
        failures = getattr(current, "failures", None)
        found = (
            [value[0] for value in failures.values() if isinstance(value, tuple)] if isinstance(failures, dict) else []
        )
        linked = [current.__cause__, None if current.__suppress_context__ else current.__context__]
        waiting += [each for each in (*parts, *found, *linked) if isinstance(each, BaseException)]


def no_space_left(error: BaseException) -> bool:
    """Whether a full disk is behind the error."""
    for each in causes(error):
        if isinstance(each, OSError) and each.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if any(words in str(each).lower() for words in _NO_SPACE):
            return True
    return False
