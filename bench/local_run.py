"""The bars of a local run, in one go: fresh, unchanged, and with one setting of stage 3 changed.

    .venv/bin/python bench/local_run.py [--store DIR]

Prints wall seconds, peak resident memory of all processes, cost, which steps ran, and the scores.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ZOETROPE = Path(sys.executable).parent / "zoetrope"
CASES = {
    "fresh": [],
    "nothing changed": [],
    "stage 3 changed": ["--set", "stages.stage_3.steps=240"],
}


def run(store: Path, arguments: list[str]) -> tuple[float, dict[str, Any]]:
    """Wall seconds and record of one run."""
    started = time.perf_counter()
    command = [str(ZOETROPE), "run", "nano", "--store", str(store), "--json", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return time.perf_counter() - started, json.loads(done.stdout)


def main() -> None:
    """Runs the cases one after the other in one store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, default=None)
    store = parser.parse_args().store or Path(tempfile.mkdtemp(prefix="zoetrope-bench-"))
    for name, arguments in CASES.items():
        seconds, record = run(store, arguments)
        ran = [step for step, state in record["steps"].items() if state["status"] != "reused"]
        print(f"{name}: {seconds:.1f} s, {record['peak_memory_bytes'] / 1e9:.2f} GB, {record['cost_usd']} USD")
        print(f"  ran: {', '.join(ran)}")
        print(f"  dataset {record['dataset'].get('tag')} {record['dataset'].get('digest')}")
        print(f"  {record['steps']['evaluate']['key_figure']}; {record['steps']['promote']['key_figure']}")
        for step in ran:
            print(f"    {step:<12} {record['steps'][step]['seconds']:7.1f} s")


if __name__ == "__main__":
    main()
