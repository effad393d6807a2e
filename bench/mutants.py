"""Mutants: single wrong changes of the code, each of which its tests have to notice.

    .venv/bin/python bench/mutants.py [--only NAME ...] [--json OUT]

The table is bench/mutants.toml: a text of one file, which has to stand there exactly once, the text in its place, and
the tests that shall die of it. The repository is copied to a temporary folder, so the working tree stays as it is.
There all named tests run once without a mutant and have to be green; then each mutant is applied by itself, its tests
run until the first failure, and it is taken back. One process, with the same examples of property tests every time.

Prints a line a mutant: killed (and by which test), SURVIVED, `does not apply` (its text is not there once),
`does not run` (no test was reached) or `timed out` (no verdict). Exits 1 unless every mutant was killed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TABLE = Path(__file__).with_suffix(".toml")
PACKAGES = ("components", "infra", "model", "pipelines")
NAMESPACE = "zoetrope"
TEST_SECONDS = 60
_FAILED = re.compile(r"^(?:FAILED|ERROR) (?P<test>\S+::\S+.*?)(?: - (?P<why>.*))?$", re.MULTILINE)


@dataclass(frozen=True)
class Mutant:
    """One wrong change.

    Attributes:
        name: of the mutant.
        file: below the root of the repository.
        before: text that stands in the file exactly once.
        after: what stands there instead.
        tests: files or nodes of pytest, of which one fails.
    """

    name: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> list[Mutant]:
        """All mutants of a table, in its order."""
        rows = tomllib.loads(path.read_text(encoding="utf-8"))["mutant"]
        found = [cls(**{**row, "tests": tuple(row["tests"])}) for row in rows]
        names = [each.name for each in found]
        if len(set(names)) < len(names):
            raise SystemExit(f"{path.name}: two mutants of one name: {sorted(n for n in names if names.count(n) > 1)}")
        return found


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant: `result` as in the module's description, the test that failed, seconds."""

    name: str
    file: str
    result: str
    test: str
    seconds: float


class Copy:
    """A copy of the repository from which `zoetrope` and `tests` are imported."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
        for name in filter(None, listed.decode().split("\0")):
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).exists():
                shutil.copy2(ROOT / name, target, follow_symlinks=False)
        (folder / NAMESPACE).mkdir()
        for package in PACKAGES:
            (folder / NAMESPACE / package).symlink_to(Path("..") / package)
        where = self._python(["-c", "import zoetrope.infra as it; print(it.__file__)"]).stdout.strip()
        if not Path(where).is_relative_to(folder):
            raise SystemExit(f"the copy is not what is imported, but {where}")

    def green(self, tests: Iterable[str]) -> float:
        """Runs tests without a mutant, which also compiles all modules; seconds. Ends the run where one fails."""
        started = time.perf_counter()
        done = self._pytest(sorted(set(tests)), keep_bytecode=True)
        if done.returncode:
            raise SystemExit(f"without a mutant the tests are not green:\n{done.stdout[-4000:]}{done.stderr[-2000:]}")
        return time.perf_counter() - started

    def outcome(self, mutant: Mutant) -> Outcome:
        """Applies a mutant, runs its tests, and takes it back."""
        started = time.perf_counter()
        path = self.folder / mutant.file
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        if text.count(mutant.before) != 1 or mutant.before == mutant.after:
            return Outcome(mutant.name, mutant.file, "does not apply", "", 0.0)
        status = path.stat()
        try:
            path.write_text(text.replace(mutant.before, mutant.after), encoding="utf-8")
            result, test = _verdict(self._pytest(mutant.tests))
        finally:
            path.write_text(text, encoding="utf-8")
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # what was compiled of it counts again
        return Outcome(mutant.name, mutant.file, result, test, round(time.perf_counter() - started, 1))

    def _pytest(self, tests: Sequence[str], *, keep_bytecode: bool = False) -> subprocess.CompletedProcess[str]:
        options = ["-x", "-q", "-rfE", "--tb=no", "-p", "no:cacheprovider", f"--timeout={TEST_SECONDS}"]
        return self._python(["-m", "pytest", *options, *tests], keep_bytecode=keep_bytecode)

    def _python(self, arguments: Sequence[str], *, keep_bytecode: bool = False) -> subprocess.CompletedProcess[str]:
        # Before the installed one, whose finder is asked last; also in the processes that tests start.
        variables = {"PYTHONPATH": str(self.folder), "CI": "1", "COLUMNS": "300"}
        if not keep_bytecode:  # of a mutant nothing may be left
            variables["PYTHONDONTWRITEBYTECODE"] = "1"
        command = [sys.executable, *arguments]
        environment = os.environ | variables
        return subprocess.run(
            command, cwd=self.folder, env=environment, check=False, capture_output=True, text=True, encoding="utf-8"
        )


def _verdict(done: subprocess.CompletedProcess[str]) -> tuple[str, str]:
    """(result, test)."""
    if done.returncode == 0:
        return "SURVIVED", ""
    failed = _FAILED.search(done.stdout)
    if done.returncode != 1 or failed is None:
        lines = (done.stdout + done.stderr).strip().splitlines()
        return "does not run", next((line for line in lines if line.startswith("ERROR")), "".join(lines[-1:]))
    return "timed out" if "Timeout" in (failed["why"] or "") else "killed", failed["test"]


def main() -> None:
    """Prints a line a mutant and exits 1 unless all were killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these mutants alone")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the outcomes to a file")
    options = parser.parse_args()
    mutants = Mutant.read(TABLE)
    if unknown := sorted(set(options.only or ()) - {each.name for each in mutants}):
        raise SystemExit(f"no such mutant: {', '.join(unknown)}")
    mutants = [each for each in mutants if not options.only or each.name in options.only]
    started = time.perf_counter()
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = Copy(Path(folder).resolve())
        green = copy.green(test for each in mutants for test in each.tests)
        print(f"green without a mutant: {green:.0f} s", flush=True)
        for mutant in mutants:
            outcomes.append(copy.outcome(mutant))
            last = outcomes[-1]
            print(f"{last.result:14} {last.seconds:5.1f} s  {last.name}  {last.test}", flush=True)
    seconds = round(time.perf_counter() - started)
    killed = sum(each.result == "killed" for each in outcomes)
    print(f"{killed} of {len(outcomes)} killed, {seconds} s")
    if options.json:
        value = {"seconds": seconds, "mutants": [asdict(each) for each in outcomes]}
        options.json.write_text(json.dumps(value, indent=1) + "\n")
    raise SystemExit(killed < len(outcomes))


if __name__ == "__main__":
    main()
