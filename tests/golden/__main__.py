"""Computes the golden numbers of this type of CPU, prints what changed and writes them: `make golden-numbers`."""

from __future__ import annotations

import argparse

from tests import processes  # noqa: F401 - one thread, before libraries are loaded
from tests.golden import compute, files, runs


def main() -> None:
    """Writes tests/golden/anywhere.json and the file of this type of CPU."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", nargs="*", choices=runs.RECIPES, default=[], help="also whole runs of these recipes")
    options = parser.parse_args()
    name = files.cpu_type()
    before = files.read(name) or {}
    numbers = compute.here()
    digests = {recipe: runs.dataset_digest(recipe) for recipe in options.runs}
    numbers["datasets"] = {**before.get("datasets", {}), **digests}
    for file, new in ((files.ANYWHERE, compute.anywhere()), (name, numbers)):
        lines = files.difference(files.read(file), new)
        files.write(file, new)
        print(f"{file}: {len(lines)} changed", *lines, sep="\n  ")


if __name__ == "__main__":
    main()
