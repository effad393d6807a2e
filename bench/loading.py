"""Peak host memory of loading weights: the model and one tensor, whatever the size of the file.

    python bench/loading.py --hidden 1536 --shards 4

Writes random bfloat16 weights of an MMDiT, loads them in a process of its own into a model on the meta device, and
compares the growth of that process's peak resident memory with the size of the model.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

MEGABYTE = 1e6


def config(hidden: int):
    """An MMDiT of the 11B model's proportions, with fewer and narrower blocks."""
    from zoetrope.model.mmdit import MMDiTConfig

    return MMDiTConfig(hidden_size=hidden, num_heads=hidden // 128, depth=2, depth_single_blocks=4)


def write(directory: Path, hidden: int, shards: int) -> Path:
    """Random weights as one file, or as shards with an index."""
    import torch

    from zoetrope.model.checkpoint import save_weights
    from zoetrope.model.mmdit.model import MMDiT

    model = MMDiT(config(hidden)).initialise(0).to(torch.bfloat16)
    state = model.state_dict()
    if shards == 1:
        return save_weights(state, directory / "model.safetensors")
    names = sorted(state)
    weight_map = {}
    for index in range(shards):
        file = f"model-{index + 1:05d}-of-{shards:05d}.safetensors"
        part = names[index::shards]
        save_weights({name: state[name] for name in part}, directory / file)
        weight_map |= dict.fromkeys(part, file)
    path = directory / "model.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return path


def peak_memory() -> float:
    """Highest resident memory of this process so far, bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def load(path: Path, hidden: int) -> dict[str, float]:
    """Loads in this process; growth of the peak and sizes in bytes."""
    import torch

    from zoetrope.model.checkpoint import load_weights, save_weights
    from zoetrope.model.mmdit.model import MMDiT

    with torch.device("meta"):
        model = MMDiT(config(hidden)).to(torch.bfloat16)
    small = torch.nn.Linear(8, 8)  # what a first load imports is not counted
    with tempfile.TemporaryDirectory() as directory:
        load_weights(small, save_weights(small, Path(directory) / "small.safetensors"))
    before = peak_memory()
    load_weights(model, path)
    sizes = [parameter.numel() * parameter.element_size() for parameter in model.parameters()]
    return {"growth": peak_memory() - before, "model": float(sum(sizes)), "largest": float(max(sizes))}


def measure(hidden: int, shards: int) -> dict[str, float]:
    """One measurement in a fresh process."""
    with tempfile.TemporaryDirectory() as directory:
        path = write(Path(directory), hidden, shards)
        command = [sys.executable, __file__, "--hidden", str(hidden), "--load", str(path)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def main() -> None:
    """Prints one line of figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hidden", type=int, default=1536)
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--load", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.load:
        print(json.dumps(load(args.load, args.hidden)))
        return
    found = measure(args.hidden, args.shards)
    extra = found["growth"] - found["model"]
    print(
        f"model {found['model'] / MEGABYTE:.0f} MB in {args.shards} file(s): peak grew by "
        f"{found['growth'] / MEGABYTE:.0f} MB, {extra / MEGABYTE:.0f} MB more than the model; largest tensor "
        f"{found['largest'] / MEGABYTE:.0f} MB"
    )


if __name__ == "__main__":
    main()
