"""Kills ranks of a training at random steps and lets it go on: it has to end as an undisturbed one does.

    .venv/bin/python bench/kill_sweep.py --store DIR [--data nano-v1] [--points 2] [--steps 24] [--meshes NAME ...]

DIR is a store with a dataset version (`make demo`). Each mesh trains once undisturbed, then `--points` times with a
SIGKILL of a random rank at a random step (seeded) and once more to its end. Prints a line a point; exits 1 unless all
weights are bit for bit the same and all losses equal. `others` goes on with other numbers of ranks instead (4, then 2,
then 3): its losses have to agree within 1e-5.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from zoetrope.model.checkpoint import read_weights

MESHES = {
    "replicas 2": (2, "{shard: 1}"),
    "replicas 3": (3, "{shard: 1}"),
    "FSDP2 2": (2, "{shard: 2}"),
    "FSDP2 3": (3, "{shard: 3}"),
    "FSDP2 4": (4, "{shard: 4}"),
    "HSDP 2 x 2": (4, "{replicate: 2, shard: 2}"),
    "Ulysses 2": (2, "{shard: 1, context: 2}"),
    "HSDP 2 x Ulysses 2": (4, "{replicate: 2, shard: 1, context: 2}"),
}
SIZES = (4, 2, 3)


def command(args: argparse.Namespace, out: Path, processes: int, parallel: str, steps: int) -> list[str]:
    """`zoetrope train` of the stage."""
    words = [str(Path(sys.executable).parent / "zoetrope"), "train", "stage_1", "--data", args.data]
    words += ["--out", str(out), "--store", str(args.store), "--nproc", str(processes)]
    settings = {"steps": steps, "batch_size": 12, "save_every": 5, "log_every": 1, "parallel": parallel}
    settings["optimizer"] = "{learning_rate: 2.0e-3, ema_decay: 0.99, eps: 1.0e-3}"
    for name, value in settings.items():
        words += ["--set", f"stages.stage_1.{name}={value}"]
    return words


def run(words: list[str]) -> None:
    """To its end."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(words)}\n{done.stderr[-3000:]}")


def killed(words: list[str], step: int, rank: int) -> None:
    """Until a step, in which a rank is killed."""
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(f"step {step} "):
            os.kill(rank_of(process.pid, rank), signal.SIGKILL)
    process.wait()


def rank_of(parent: int, rank: int) -> int:
    """Process number of a rank below `zoetrope train`."""
    found = subprocess.run(["ps", "-eo", "pid,ppid"], capture_output=True, text=True, check=True).stdout
    pairs = [tuple(map(int, line.split())) for line in found.splitlines()[1:]]
    below, wanted = [parent], []
    while below:
        below = [pid for pid, ppid in pairs if ppid in below]
        wanted = below or wanted
    return sorted(wanted)[rank]


def losses(out: Path) -> dict[int, float]:
    """Of each step, the last time that it was told."""
    lines = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line["loss"] for line in lines}


def sweep(args: argparse.Namespace, name: str, work: Path, chance: random.Random) -> bool:
    """One mesh."""
    processes, parallel = MESHES[name]
    whole = work / "whole"
    run(command(args, whole, processes, parallel, args.steps))
    expected = read_weights(whole / "weights.safetensors")
    good = True
    for point in range(args.points):
        out, step, rank = work / str(point), chance.randrange(1, args.steps - 1), chance.randrange(processes)
        words = command(args, out, processes, parallel, args.steps)
        killed(words, step, rank)
        run(words)
        found = read_weights(out / "weights.safetensors")
        resumed = json.loads((out / "training.json").read_text())["resumed_at"]
        same = losses(out) == losses(whole) and all(torch.equal(found[key], value) for key, value in expected.items())
        verdict = "the same bits" if same else "DIFFERENT"
        print(f"{name}: rank {rank} killed at step {step}, went on at {resumed}: {verdict}", flush=True)
        good = good and same
    return good


def others(args: argparse.Namespace, work: Path) -> bool:
    """Another number of ranks in each third."""
    whole, out = work / "whole", work / "others"
    run(command(args, whole, 1, "{shard: 1}", args.steps))
    for number, size in enumerate(SIZES, start=1):
        run(command(args, out, size, f"{{shard: {size}}}", args.steps * number // len(SIZES)))
    wanted, found = losses(whole), losses(out)
    apart = max(abs(found[step] / wanted[step] - 1) for step in wanted)
    print(f"FSDP2 of {', then '.join(map(str, SIZES))} ranks against one process: losses {apart:.1e} apart", flush=True)
    return found.keys() == wanted.keys() and apart < 1e-5


def main() -> int:
    """All of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--data", default="nano-v1")
    parser.add_argument("--points", type=int, default=2)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--meshes", nargs="*", default=[*MESHES, "others"])
    args = parser.parse_args()
    chance, good = random.Random(args.seed), True
    for name in args.meshes:
        with tempfile.TemporaryDirectory(prefix="zoetrope-kill-") as folder:
            good = (
                others(args, Path(folder)) if name == "others" else sweep(args, name, Path(folder), chance)
            ) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
