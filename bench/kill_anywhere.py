"""Kills a run with SIGKILL at random moments until it gets through; the dataset must be that of a quiet run.

    .venv/bin/python bench/kill_anywhere.py [--kills 8] [--seed 0] [--recipe tests/recipes/tiny.yaml]

Prints each kill (when, which step, processes that outlived it) and both digests; exits 1 when they differ or when
a process is left.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ZOETROPE = Path(sys.executable).parent / "zoetrope"


def carriers(state: Path) -> list[int]:
    """Processes of runs in this state directory."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(state) in process.environ().get("ZOETROPE_STORE", ""):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def last_step(state: Path) -> str:
    """The step that began last."""
    events = sorted(state.glob("runs/*/events.jsonl"), key=lambda path: path.stat().st_mtime)
    started = [
        json.loads(line)["step"]
        for line in (events[-1].read_text().splitlines() if events else [])
        if "started" in line
    ]
    return started[-1] if started else "start"


def digest(state: Path) -> str:
    """Dataset digest of the newest finished run."""
    records = sorted(state.glob("runs/*/record.json"), key=lambda path: path.stat().st_mtime)
    return str(json.loads(records[-1].read_text())["dataset"]["digest"])


def main() -> int:
    """Runs quiet and killed, and compares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--longest", type=float, default=40.0, help="seconds until a kill, at most")
    parser.add_argument("--recipe", default="tests/recipes/tiny.yaml")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    folder = Path(tempfile.mkdtemp(prefix="zoetrope-kill-"))
    quiet, killed = folder / "quiet", folder / "killed"
    command = [str(ZOETROPE), "run", options.recipe, "--store"]
    subprocess.run([*command, str(quiet)], check=True, capture_output=True)
    for number in range(options.kills):
        run = subprocess.Popen([*command, str(killed)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait = chance.uniform(1.0, options.longest)
        try:
            run.wait(wait)
            print(f"kill {number + 1}: the run was through after {wait:.1f} s")
            continue
        except subprocess.TimeoutExpired:
            run.send_signal(signal.SIGKILL)
            run.wait()
        time.sleep(0.2)
        outlive = len(carriers(killed))
        print(f"kill {number + 1}: after {wait:.1f} s in {last_step(killed)}, {outlive} processes outlive it")
    done = subprocess.run([*command, str(killed)], check=False, capture_output=True, text=True)
    left = carriers(killed)
    same = digest(killed) == digest(quiet)
    print(f"last run: exit {done.returncode}, left running {len(left)}")
    print(f"digest {digest(quiet)} and {digest(killed)}: {'equal' if same else 'DIFFERENT'}")
    return 0 if same and not left and done.returncode == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
