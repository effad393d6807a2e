"""How long `zoetrope run nano --explain` takes: a whole process, from the shell's point of view.

    python bench/explain.py --store .zoetrope --times 7

The store should hold a run of nano, so that keys are compared and prices added up. The bar is 2 s.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

ZOETROPE = str(Path(sys.executable).parent / "zoetrope")
CASES = {
    "nothing changed": [],
    "a threshold": ["--set", "curate.filters.motion.minimum=0.4"],
    "the last stage": ["--set", "stages.stage_3.steps=240"],
}


def main() -> None:
    """Prints a line a case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", default=".zoetrope")
    parser.add_argument("--times", type=int, default=7)
    options = parser.parse_args()
    for name, changes in CASES.items():
        command = [ZOETROPE, "run", "nano", "--explain", "--json", "--store", options.store, *changes]
        seconds = []
        for _ in range(options.times):
            started = time.perf_counter()
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            seconds.append(time.perf_counter() - started)
        found = [row["step"] for row in json.loads(done.stdout) if row["status"] == "MISS"]
        spread = f"{min(seconds):.2f} to {max(seconds):.2f}"
        print(f"{name}: median {statistics.median(seconds):.2f} s ({spread}), misses: {', '.join(found) or 'none'}")


if __name__ == "__main__":
    main()
