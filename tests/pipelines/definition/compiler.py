"""`zoetrope compile` for tests, in one process that only does that.

KFP asks `inspect` for its callers at each setting of a task, which looks at every imported module: among those of all
tests that takes minutes. And starting the command takes ten times as long as what it does.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Done:
    """How a call of the command ended."""

    returncode: int
    stderr: str


class Compiler:
    """Calls `zoetrope compile` in the other process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def __call__(self, *arguments: str, images: Path | None = None) -> Done:
        """As users call it, with the fixture's digests where `images` is given."""
        command = ["compile", *arguments]
        command += ["--target", "cluster", "--images", str(images), "--commit", ""] if images else []
        assert self.process.stdin is not None and self.process.stdout is not None
        print(json.dumps(command), file=self.process.stdin, flush=True)
        return Done(**json.loads(self.process.stdout.readline()))


@contextlib.contextmanager
def compiler() -> Iterator[Compiler]:
    """Starts the process, and ends it."""
    command = [sys.executable, __file__]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Compiler(process)
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


def main() -> None:
    """Answers one line with one line, until there is none."""
    answers, said = sys.stdout, io.StringIO()
    with Path(os.devnull).open("w") as nothing, contextlib.redirect_stdout(nothing), contextlib.redirect_stderr(said):
        from zoetrope.pipelines.cli.main import main as zoetrope  # its consoles keep the streams of their first moment

        for line in sys.stdin:
            sys.argv, code = ["zoetrope", *json.loads(line)], 0
            try:
                zoetrope()
            except SystemExit as exit_:
                code = int(exit_.code or 0)
            print(json.dumps({"returncode": code, "stderr": said.getvalue()}), file=answers, flush=True)
            said.seek(0)
            said.truncate()


if __name__ == "__main__":
    main()
