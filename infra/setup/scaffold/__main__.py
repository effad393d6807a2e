"""`make scaffold`: the command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.setup.scaffold.kinds import KINDS
from zoetrope.infra.setup.scaffold.scaffold import Written, scaffold


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="zoetrope scaffold",
        description="Writes a new step, filter or metric that runs and passes its own tests, and registers it.",
        epilog="example: make scaffold KIND=filter NAME=brightness",
    )
    parser.add_argument("kind", help=", ".join(KINDS))
    parser.add_argument("name", help="in small letters, e.g. brightness")
    parser.add_argument("--into", type=Path, default=Path(), metavar="ROOT", help="the checkout; default: here")
    options = parser.parse_args(arguments)
    try:
        written = scaffold(options.kind, options.name, options.into.resolve())
    except ZoetropeError as error:
        sys.stderr.write(f"zoetrope scaffold: {error}\n")
        return error.exit_code
    sys.stdout.write(_told(written))
    return 0


def _told(written: Written) -> str:
    lines = [f"  wrote    {path}" for path in written.new]
    lines += [f"  changed  {written.table}", f"  test     .venv/bin/python -m pytest {written.test}"]
    lines += [f"  then     {line}" for line in written.then]
    return "\n".join(["zoetrope scaffold:", *lines, ""])


if __name__ == "__main__":
    raise SystemExit(main())
