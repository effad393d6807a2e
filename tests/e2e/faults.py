"""Injects faults into runs on a real cluster and counts what must never happen.

`python -m tests.e2e.faults [--case NAME] [--repeats 5] [--table]`, after `python -m tests.e2e.install`. Results are
kept in .e2e/faults, and what has its repetitions is skipped, so it goes on where it was stopped. Variables:

DATASET     tag of the dataset version that the runs start from (default tiny-v1)
DATASET_REMOTE   git URL of the data registry, as this machine reaches it
API_STOP, API_START   commands that stop and start the cluster's API server; without them that case is not run
"""

from __future__ import annotations

import argparse
import json
import time
import traceback
from pathlib import Path
from typing import Any

from tests.e2e.cases import CASES
from tests.e2e.cluster import Run
from tests.e2e.invariants import broken_promises

FOLDER = Path(".e2e") / "faults"
COUNTERS = ("doubled jobs", "orphans", "lost ledger events", "wrong verdicts")


def load(name: str) -> list[dict[str, Any]]:
    """Results of a case's repetitions."""
    path = FOLDER / f"{name}.json"
    return list(json.loads(path.read_text())) if path.exists() else []


def repeat(name: str, number: int) -> list[dict[str, Any]]:
    """Runs a case once, which may be several repetitions in one run."""
    started = time.time()
    runs: list[Run] = []
    try:
        seen = CASES[name](number, runs)
    except Exception as error:  # noqa: BLE001 - a repetition that breaks off is a result, and a bad one
        traceback.print_exc()
        seen = [("", [f"broke off: {type(error).__name__}: {error}"])]
    for run in runs:
        run.close()
    results = [
        {"notes": notes, "wrong": wrong, "counters": {**dict.fromkeys(COUNTERS, 0), "wrong verdicts": len(wrong)}}
        for notes, wrong in seen
    ]
    for run in runs:
        for counter, found in broken_promises(run).items():
            results[-1]["counters"][counter] += len(found)
            results[-1]["wrong"] += [f"{counter}: {each}" for each in found]
    seconds = round((time.time() - started) / len(results), 1)
    return [{**each, "seconds": seconds, "runs": [run.run_id for run in runs], "started": started} for each in results]


def table() -> str:
    """Markdown."""
    lines = [f"| fault | times | {' | '.join(COUNTERS)} | seen |", "|---" * (len(COUNTERS) + 3) + "|"]
    for name in CASES:
        found = load(name)
        sums = [str(sum(each["counters"][counter] for each in found)) if found else "-" for counter in COUNTERS]
        notes = "; ".join(sorted({each["notes"] for each in found if each["notes"]}))[:300] or "not run"
        lines.append(f"| {name.replace('_', ' ')} | {len(found)} | {' | '.join(sums)} | {notes} |")
    return "\n".join(lines)


def main() -> int:
    """Runs what is left to do; 1 where a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=sorted(CASES), action="append")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--table", action="store_true", help="print the table of what was seen, run nothing")
    options = parser.parse_args()
    for name in [] if options.table else options.case or list(CASES):
        while len(known := load(name)) < options.repeats:
            for number, result in enumerate(repeat(name, len(known)), len(known) + 1):
                known.append(result)
                verdict = "; ".join(result["wrong"]) or "as promised"
                print(f"{name} {number}: {verdict} ({result['seconds']:.0f} s) {result['notes']}", flush=True)
            FOLDER.mkdir(parents=True, exist_ok=True)
            (FOLDER / f"{name}.json").write_text(json.dumps(known, indent=1))
    print(table())
    return int(any(each["wrong"] for name in CASES for each in load(name)))


if __name__ == "__main__":
    raise SystemExit(main())
