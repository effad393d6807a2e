"""What 70 million clips would take, on paper: hours, dollars, objects and requests on 10 to 1,000 pods.

    python bench/scale_data.py [--films 48 --size 256 --clips 70e6 --prices NAME]

Runs the real data steps on rendered footage as a cluster would, all replicas one after the other in this process,
behind a store that counts: after a warm-up first on a quarter of the films, then on all, so that what costs the same
for any number of clips (loading models, the page) drops out. CPU seconds, objects and requests per clip are measured
so; the rest is arithmetic. What a step does once for all clips (its merge) does not get faster with more pods.

Not in the table: the filter near_duplicate, which compares every pair of clips in one process and has to be replaced
or left out at this size, and the training of the autoencoder. Encoding is that of the given autoencoder on one core.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

PODS = (10, 32, 100, 316, 1000)
MEMORY_GB = {"ingest": 1.0, "curate": 1.0, "caption": 1.0, "encode": 4.0}
WARM_UP_FILMS = 4
PUTS, GETS, HEADS, LISTS = "PUT", "GET", "HEAD", "LIST"
MAIN_PROCESS_GB = 4.0


class CountingStore:
    """A local store that counts the requests that S3 would get for the same calls."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.root = inner, inner.root
        self.requests: Counter[str] = Counter()
        self.objects: set[str] = set()

    def uri(self, key: str) -> str:
        return str(self.inner.uri(key))

    def put_bytes(self, key: str, data: bytes) -> str:
        self._put(key)
        return str(self.inner.put_bytes(key, data))

    def put_file(self, key: str, path: Path) -> str:
        self._put(key)
        return str(self.inner.put_file(key, path))

    def read(self, uri: str, start: int = 0, length: int | None = None) -> bytes:
        self.requests[GETS] += 1
        return bytes(self.inner.read(uri, start, length))

    def size(self, uri: str) -> int:
        self.requests[HEADS] += 1
        return int(self.inner.size(uri))

    def exists(self, uri: str) -> bool:
        self.requests[HEADS] += 1
        return bool(self.inner.exists(uri))

    def list(self, prefix: str) -> Iterator[str]:
        found = list(self.inner.list(prefix))
        self.requests[LISTS] += len(found) // 1000 + 1
        yield from found

    def fetch(self, uri: str, path: Path) -> Path:
        self.requests[HEADS] += 1
        self.requests[GETS] += 1
        return Path(self.inner.fetch(uri, path))

    def delete(self, uri: str) -> None:
        self.requests["DELETE"] += 1
        self.inner.delete(uri)

    def local_path(self, uri: str) -> None:
        """None, as on S3, so that videos are fetched."""
        return

    def _put(self, key: str) -> None:
        self.requests[PUTS] += 1
        self.objects.add(key)


@dataclass
class Cost:
    """Of one step: CPU seconds in its units and in its own process, requests and objects."""

    units: float = 0.0
    merge: float = 0.0
    requests: dict[str, float] = field(default_factory=dict)
    objects: float = 0.0

    def each(self, before: Cost, clips: int) -> Cost:
        """Of one clip, by what this run of the step took more than one with `clips` clips fewer."""
        requests = {kind: (count - before.requests.get(kind, 0)) / clips for kind, count in self.requests.items()}
        return Cost(
            max(0.0, self.units - before.units) / clips,
            max(0.0, self.merge - before.merge) / clips,
            requests,
            (self.objects - before.objects) / clips,
        )


class Measured:
    """Runs steps and notes what each costs."""

    def __init__(self, folder: Path) -> None:
        import zoetrope.infra.launch
        from zoetrope.infra.store import open_store
        from zoetrope.infra.workers import replica, units

        os.environ["ZOETROPE_CLUSTER"] = "true"
        self.folder = folder
        self.store = CountingStore(open_store(folder / "store"))
        self.costs: dict[str, Cost] = {}
        self.in_units = 0.0
        self.replica = replica
        units._opened = replica.open_store = lambda root: self.store  # type: ignore[assignment]
        zoetrope.infra.launch.run_app = self._run_app  # type: ignore[assignment]
        tempfile.tempdir = str(folder)

    def step(self, name: str, run: Callable[[Any], Any]) -> str:
        """Runs one step; returns its product."""
        from zoetrope.infra.context import StepContext

        work = self.folder / "work" / name
        work.mkdir(parents=True)
        self.store.requests.clear()
        self.store.objects.clear()
        self.in_units, started = 0.0, time.process_time()
        context = StepContext(name, self.store, work, self.folder / "run")
        product = str(run(context).product)
        whole = time.process_time() - started
        requests = {kind: float(count) for kind, count in self.store.requests.items()}
        self.costs[name] = Cost(self.in_units, whole - self.in_units, requests, len(self.store.objects))
        return product

    def _run_app(self, app: Any, context: Any, **_: Any) -> None:
        root, key, replicas, function = app.roles[0].args[2:]
        module, _, name = function.partition(":")
        started = time.process_time()
        for index in range(int(replicas)):
            self.replica.work(root, key, int(replicas), index, getattr(sys.modules[module], name))
        self.in_units += time.process_time() - started


def recipe(films: int, size: int) -> Any:
    """`nano` with larger films, without what compares all clips with each other."""
    from zoetrope.pipelines.recipe.recipe import load_recipe

    changes = [
        f"source.samples={{seed: 7, films: {films}, shots_per_film: 7, size: {size}}}",
        "curate.filters.near_duplicate.enabled=false",
        *(f"{step}.workers=2" for step in MEMORY_GB),
    ]
    return load_recipe("nano", changes)


def autoencoder(measured: Measured, config: Any) -> str:
    """A product with random weights of the recipe's architecture: encoding costs the same."""
    from zoetrope.infra.store import put_file_content, put_json
    from zoetrope.model.autoencoders.dc_ae import VideoDCAE
    from zoetrope.model.checkpoint import save_weights

    path = save_weights(VideoDCAE(config).initialise(0), measured.folder / "autoencoder.safetensors")
    channels = config.latent_channels
    product = {
        "schema": "zoetrope.autoencoder.v1",
        "kind": "dc_ae",
        "config": json.loads(json.dumps(asdict(config))),
        "weights": str(put_file_content(measured.store, path)),
        "latent_mean": [0.0] * channels,
        "latent_std": [1.0] * channels,
    }
    return str(put_json(measured.store, product))


def measure(films: int, size: int, folder: Path) -> tuple[dict[str, Cost], int]:
    """(costs by step, clips that the steps cut)."""
    from zoetrope.components.caption.step import caption
    from zoetrope.components.curate.step import curate
    from zoetrope.components.encode.step import encode
    from zoetrope.components.ingest.footage import render_footage
    from zoetrope.components.ingest.step import ingest
    from zoetrope.infra.store import get_json

    import zoetrope.components.encode.worker  # noqa: F401, isort: skip - imports are not part of a clip's cost

    given = recipe(films, size)
    bucket = folder / "bucket"
    render_footage(bucket, given.source.samples, workers=2)
    source = given.source.model_copy(update={"samples": None, "s3": bucket.as_uri()})
    measured = Measured(folder)
    sources = measured.step("ingest", lambda context: ingest(given.ingest, source, context))
    clips = measured.step("curate", lambda context: curate(given.curate, sources, context))
    captions = measured.step("caption", lambda context: caption(given.caption, clips, sources, context))
    model = autoencoder(measured, given.autoencoder.architecture)
    measured.step("encode", lambda context: encode(given.encode, captions, model, context))
    return measured.costs, int(get_json(measured.store, clips)["counts"]["kept"])


def start_seconds() -> float:
    """Wall seconds until a worker of encode, the heaviest, has imported its modules."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import zoetrope.components.encode.worker"], check=True)
    return time.perf_counter() - started


def main() -> None:
    """Measures, multiplies and prints."""
    from zoetrope.infra.prices import choose_price_sheet

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=int, default=48)
    parser.add_argument("--size", type=int, default=256, help="width and height of the films in pixels")
    parser.add_argument("--clips", type=float, default=70e6)
    parser.add_argument("--prices", default="local", help="a price sheet, or a provider")
    given = parser.parse_args()
    sheet = choose_price_sheet(given.prices)
    start = start_seconds()
    runs = []
    for films in (WARM_UP_FILMS, given.films // 4, given.films):
        with tempfile.TemporaryDirectory() as folder:
            runs.append(measure(films, given.size, Path(folder)))
            tempfile.tempdir = None
    _, (first, few), (second, many) = runs
    costs = {name: cost.each(first[name], many - few) for name, cost in second.items()}
    print(f"measured: {few} and {many} kept clips, films of {given.size} pixels; a worker starts in {start:.1f} s")
    print("| step | CPU s a clip, workers | CPU ms a clip, own process | objects a clip | requests a clip |")
    print("|---|---|---|---|---|")
    for name, cost in costs.items():
        by_kind = ", ".join(f"{count:.2f} {kind}" for kind, count in sorted(cost.requests.items()) if count > 0)
        print(f"| {name} | {cost.units:.3f} | {1000 * cost.merge:.2f} | {cost.objects:.2f} | {by_kind} |")
    print(f"\n{given.clips:,.0f} clips, pods of one core, prices of {sheet.name} ({sheet.currency})")
    print("| pods | hours in workers | hours in the steps' own process | all | cost | objects | requests a second |")
    print("|---|---|---|---|---|---|---|")
    for pods in PODS:
        print(row(pods, costs, given.clips, start, sheet))


def row(pods: int, costs: dict[str, Cost], scale: float, start: float, sheet: Any) -> str:
    """One line of the table."""
    dollars = Decimal(0)
    working = merging = 0.0
    for name, cost in costs.items():
        hours = (cost.units * scale / pods + start) / 3600
        own = cost.merge * scale / 3600
        pod = sheet.cpu_core_hour + Decimal(str(MEMORY_GB[name])) * sheet.memory_gb_hour
        main_pod = sheet.cpu_core_hour + Decimal(str(MAIN_PROCESS_GB)) * sheet.memory_gb_hour
        dollars += pods * pod * Decimal(str(hours)) + main_pod * Decimal(str(hours + own))
        working, merging = working + hours, merging + own
    requests = sum(sum(cost.requests.values()) for cost in costs.values()) * scale
    objects = sum(cost.objects for cost in costs.values()) * scale
    return (
        f"| {pods:,} | {working:,.1f} | {merging:,.1f} | {working + merging:,.1f} | {dollars:,.0f} "
        f"| {objects / 1e6:,.0f} M | {requests / (working * 3600):,.0f} |"
    )


if __name__ == "__main__":
    main()
