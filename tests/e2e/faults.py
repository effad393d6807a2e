"""Injects faults into runs on a real cluster and counts what must never happen.

`python -m tests.e2e.faults [--case NAME] [--repeats 5] [--table]`, after `python -m tests.e2e.install`. Results are
kept in .e2e/faults.json, and what has its repetitions is skipped, so it goes on where it was stopped. Variables:

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

RESULTS = Path(".e2e") / "faults.json"
COUNTERS = ("doubled jobs", "orphans", "lost ledger events", "wrong verdicts")


def load() -> dict[str, list[dict[str, Any]]]:
    """Case -> results of its repetitions."""
    return dict(json.loads(RESULTS.read_text())) if RESULTS.exists() else {}


def save(results: dict[str, list[dict[str, Any]]]) -> None:
    """Writes all results."""
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1))


def repeat(name: str, number: int) -> dict[str, Any]:
    """One repetition of a case."""
    started = time.time()
    result: dict[str, Any] = {"started": started, "repetition": number, "notes": "", "wrong": []}
    runs: list[Run] = []
    try:
        notes, wrong = CASES[name](number, runs)
        result |= {"notes": notes, "wrong": wrong}
    except Exception as error:  # noqa: BLE001 - a repetition that breaks off is a result, and a bad one
        traceback.print_exc()
        result["wrong"].append(f"broke off: {type(error).__name__}: {error}")
    finally:
        for run in runs:
            run.close()
    result["runs"] = [run.run_id for run in runs]
    result["counters"] = dict.fromkeys(COUNTERS, 0)
    for run in runs:
        for counter, found in broken_promises(run).items():
            result["counters"][counter] += len(found)
            result["wrong"] += [f"{counter}: {each}" for each in found]
    result["counters"]["wrong verdicts"] = sum(not each.startswith(COUNTERS[:3]) for each in result["wrong"])
    result["seconds"] = round(time.time() - started, 1)
    return result


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    """Markdown."""
    lines = [f"| fault | times | {' | '.join(COUNTERS)} | seen |", "|---" * (len(COUNTERS) + 3) + "|"]
    for name in CASES:
        found = results.get(name, [])
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
    results = load()
    for name in [] if options.table else options.case or list(CASES):
        while len(results.get(name, [])) < options.repeats:
            number = len(results.get(name, []))
            result = repeat(name, number)
            results = load()
            results.setdefault(name, []).append(result)
            save(results)
            verdict = "; ".join(result["wrong"]) or "as promised"
            print(f"{name} {number + 1}: {verdict} ({result['seconds']:.0f} s) {result['notes']}", flush=True)
    print(table(results))
    return int(any(each["wrong"] for found in results.values() for each in found))


if __name__ == "__main__":
    raise SystemExit(main())
