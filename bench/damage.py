"""One flipped bit in each kind of content of a finished run: is it named by the step that reads it?

    python bench/damage.py --store .zoetrope

The state folder is copied (so this also shows that a copy works by itself) and has to hold a finished run of `nano`.
For each kind a bit in the middle of one object of the copy is flipped, the step that reads it is run by hand without
its known result, and the object is put right again. Exits 1 where a step did not end with exit code 2 and the name of
the object.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from zoetrope.infra.store import Store, get_json, get_table, open_store

ZOETROPE = str(Path(sys.executable).parent / "zoetrope")
INPUTS = {
    "encode": {"captions": "caption", "autoencoder": "autoencoder"},
    "caption": {"clips": "curate", "sources": "ingest"},
    "autoencoder": {"captions": "caption"},
    "stage_3": {"dataset": "encode", "parent": "stage_2"},
    "generate": {"checkpoint": "stage_3"},
    "evaluate": {"videos": "generate"},
}
"""Steps that are run -> what they read -> the step that made it."""


def main() -> None:
    """Prints a line for each kind of content."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", default=".zoetrope")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="zoetrope-damage-") as name:
        state = Path(name) / "copy"
        shutil.copytree(options.store, state, symlinks=True)
        products = finished(state)
        store = open_store(state / "store")
        unnamed = 0
        for kind, (reference, step) in contents(store, products).items():
            started = time.perf_counter()
            code, said = flipped(state, store, reference, step, products)
            key = reference.partition("@sha256:")[0]
            good = code == 2 and key.rpartition("/")[2] in said
            unnamed += not good
            hint = said.rpartition("-> ")[2]
            verdict = "named" if good else f"NOT NAMED (exit {code})"
            print(f"{kind}: {verdict} by {step} in {time.perf_counter() - started:.1f} s; {hint}", flush=True)
    sys.exit(unnamed > 0)


def finished(state: Path) -> dict[str, str]:
    """Step -> product of the first run that has all of them."""
    for path in sorted(state.glob("runs/*/record.json")):
        steps = json.loads(path.read_text())["steps"]
        products = {step: each["product"] for step, each in steps.items() if each.get("product")}
        if {"evaluate", *INPUTS} <= set(products):
            return products
    raise SystemExit(f"no run in {state} made everything: zoetrope run nano")


def contents(store: Store, products: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Kind of content -> (reference or key of one object, the step that reads it)."""
    made: dict[str, Any] = {step: get_json(store, product) for step, product in products.items()}
    videos = [video for video in get_table(store, made["ingest"]["table"])["video"].to_pylist() if video]
    return {
        "source video": (videos[0], "encode"),
        "table of sources": (made["ingest"]["table"], "caption"),
        "table of clips": (made["curate"]["table"], "caption"),
        "table of captions": (made["caption"]["table"], "autoencoder"),
        "weights of the autoencoder": (made["autoencoder"]["weights"], "generate"),
        "text encoder": (next(iter(made["encode"]["text"]["t5"].values())), "generate"),
        "shard": (made["encode"]["shards"][0]["uri"], "stage_3"),
        "index of the shards": (made["encode"]["index"], "stage_3"),
        "weights to start from": (made["stage_2"]["weights"], "stage_3"),
        "weights": (made["stage_3"]["weights"], "generate"),
        "generated video": (made["generate"]["videos"][0]["video"], "evaluate"),
        "manifest": (products["stage_3"], "generate"),
    }


def flipped(state: Path, store: Store, reference: str, step: str, products: dict[str, str]) -> tuple[int, str]:
    """Exit code and last lines of a step that reads an object with one bit flipped."""
    path = store.local_path(reference.partition("@sha256:")[0])
    assert path is not None
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[len(damaged) // 2] ^= 4
    known = state / "store" / "results" / step
    away = known.rename(known.with_name(f"{step}.away"))
    path.chmod(0o644)
    path.write_bytes(damaged)
    try:
        command = [ZOETROPE, "step", step, "--store", str(state)]
        for name, maker in INPUTS[step].items():
            output = state / f"{maker}.json"
            output.write_text(json.dumps({"product": products[maker]}))
            command += ["--input", f"{name}={output}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    finally:
        path.write_bytes(whole)
        shutil.rmtree(known, ignore_errors=True)
        away.rename(known)
    return done.returncode, " ".join(done.stderr.strip().splitlines()[-2:])


if __name__ == "__main__":
    main()
