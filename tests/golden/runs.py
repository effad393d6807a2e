"""Digests of the datasets that whole runs make; the tests of those runs compare with them."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.golden.files import AGAIN, cpu_type, libraries, read

RECIPES = {"tiny": str(Path(__file__).parents[1] / "recipes" / "tiny.yaml"), "nano": "nano"}


def check_dataset(recipe: str, digest: str) -> None:
    """Compares with the golden digest, where one is known for this type of CPU and these versions of libraries."""
    numbers = read(cpu_type()) or {}
    golden = numbers.get("datasets", {}).get(recipe)
    if golden is not None and numbers["libraries"] == libraries():
        assert digest == golden, f"the dataset of {recipe} is another one than before; {AGAIN} (RUNS={recipe})"


def dataset_digest(recipe: str) -> str:
    """Runs the recipe's data pipeline in a store of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [str(Path(sys.executable).parent / "zoetrope"), "run", RECIPES[recipe], "--pipeline", "data"]
        done = subprocess.run([*command, "--store", folder, "--json"], stdout=subprocess.PIPE, text=True, check=True)
    return str(json.loads(done.stdout)["dataset"]["digest"])
