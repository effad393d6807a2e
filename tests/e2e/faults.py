"""Injects faults into runs on a real cluster and counts what must never happen.

`python -m tests.e2e.faults [--case NAME] [--repeats 5] [--redo] [--table]`, after `python -m tests.e2e.install`.
Results are kept in .e2e/faults, and what has its repetitions is skipped, so it goes on where it was stopped.

DATASET     tag of the dataset version that the runs start from (default tiny-v1; an empty registry gets it)
DATASET_REMOTE   git URL of the data registry, as this machine reaches it
API_STOP, API_START   commands that stop and start the cluster's API server; without them that case is not run
"""

from __future__ import annotations

import argparse
import json
import os
import time
import traceback
from pathlib import Path
from typing import Any

from tests.e2e.cases import CASES, NEEDS, Seen
from tests.e2e.cluster import Run, zoetrope
from tests.e2e.invariants import broken_promises

FOLDER = Path(".e2e") / "faults"
COUNTERS = ("doubled jobs", "orphans", "lost ledger events", "wrong verdicts")
Results = list[dict[str, Any]]


def load(name: str, kind: str = "") -> Results:
    """Results of a case's repetitions; of kind `.before`, those that were put aside."""
    path = FOLDER / f"{name}{kind}.json"
    return list(json.loads(path.read_text())) if path.exists() else []


def keep(name: str, results: Results, kind: str = "") -> None:
    """Replaces them."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{name}{kind}.json").write_text(json.dumps(results, indent=1))


def put_aside(name: str) -> None:
    """Repetitions with something wrong are done again; the table goes on listing them."""
    known = load(name)
    if bad := [each for each in known if each["wrong"]]:
        keep(name, [*load(name, ".before"), *bad], ".before")
        keep(name, [each for each in known if not each["wrong"]])


def repeat(name: str, number: int) -> Results:
    """Runs a case once, which may be several repetitions in one run, or none."""
    started = time.time()
    runs: list[Run] = []
    try:
        seen = CASES[name](number, runs)
    except Exception as error:  # noqa: BLE001 - a repetition that breaks off is a result, and a bad one
        traceback.print_exc()
        seen = [Seen("", [f"broke off: {type(error).__name__}: {error}"])]
        for run in runs:
            zoetrope("runs", "cancel", run.run_id, check=False)
    results: Results = [
        {
            "notes": each.notes,
            "took": each.took,
            "wrong": list(each.wrong),
            "counters": {**dict.fromkeys(COUNTERS, 0), "wrong verdicts": len(each.wrong)},
        }
        for each in seen
    ]
    for run in runs:
        # Watched until its ledger is complete: what comes back late is seen as well.
        broken = broken_promises(run)
        run.close()
        for counter, found in broken.items():
            if found and not results:
                results.append({"notes": "", "took": None, "wrong": [], "counters": dict.fromkeys(COUNTERS, 0)})
            if found:
                results[-1]["counters"][counter] += len(found)
                results[-1]["wrong"] += [f"{counter}: {each}" for each in found]
    seconds = round((time.time() - started) / max(len(results), 1), 1)
    return [{**each, "seconds": seconds, "runs": [run.run_id for run in runs], "started": started} for each in results]


def table() -> str:
    """Markdown."""
    heads = ("fault", "times", *COUNTERS, "seconds", "seen", "before that")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name in CASES:
        found, before = load(name), load(name, ".before")
        sums = [str(sum(each["counters"][counter] for each in found)) if found else "-" for counter in COUNTERS]
        took = [each["took"] for each in found if each.get("took") is not None]
        span = f"{min(took):.0f} to {max(took):.0f}" if took else ""
        notes = "; ".join(sorted({each["notes"] for each in found if each["notes"]}))[:300] or "not run"
        wrong = f"{len(before)} with something wrong, done again" if before else ""
        cells = (name.replace("_", " "), str(len(found)), *sums, span, notes, wrong)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def run(name: str, repeats: int) -> None:
    """What a case still lacks."""
    if missing := [each for each in NEEDS.get(name, ()) if not os.environ.get(each)]:
        print(f"{name}: not run, {' and '.join(missing)} not set", flush=True)
        return
    while len(known := load(name)) < repeats:
        for number, result in enumerate(repeat(name, len(known)), len(known) + 1):
            known.append(result)
            verdict = "; ".join(result["wrong"]) or "as promised"
            print(f"{name} {number}: {verdict} ({result['seconds']:.0f} s) {result['notes']}", flush=True)
        keep(name, known)


def main() -> int:
    """Runs what is left to do; 1 where a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=sorted(CASES), action="append")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--redo", action="store_true", help="do repetitions with something wrong again, after a change")
    parser.add_argument("--table", action="store_true", help="print the table of what was seen, run nothing")
    options = parser.parse_args()
    for name in [] if options.table else options.case or list(CASES):
        if options.redo:
            put_aside(name)
        run(name, options.repeats)
    print(table())
    return int(any(each["wrong"] for name in CASES for each in load(name)))


if __name__ == "__main__":
    raise SystemExit(main())
