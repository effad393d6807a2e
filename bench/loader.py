"""What reading latents costs: an index of a million rows, shards in the page cache, waiting for a slow store.

    python bench/loader.py

Index: made once a machine, then opened by fresh processes (time, growth of their resident memory; what they have
imported before is not counted). Shards: bytes of latents and text a second of CPU (user and system, all threads) that
`fetch` and `batch` take, by the port and from local files, with and without comparing checksums. Reading ahead: a
training that computes for `--compute` seconds a step, with `--latency` seconds added to each range read of the store.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

BUCKET = "256px_129f"
LATENT = (16, 33, 32, 32)  # of HunyuanVideo's autoencoder at 256 x 256 pixels, 129 frames
TOKENS, T5, CLIP = 130, 4096, 768
KINDS = ("latent", "head", "tail", "t5", "clip")


def cpu() -> float:
    """Seconds of CPU that this process has taken."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def resident(name: str = "VmRSS") -> float:
    """Resident memory, mapped pages included, in MB; `VmHWM` is its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(name))


def read_of(folder: Path, latency: float = 0.0):
    """The port on a folder, as a remote store answers."""

    def read(uri: str, start: int, length: int) -> bytes:
        time.sleep(latency)
        with (folder / uri).open("rb") as stream:
            stream.seek(start)
            return stream.read(length)

    return read


def referenced(folder: Path, name: str) -> str:
    """Reference of a file."""
    return f"{name}@sha256:{hashlib.sha256((folder / name).read_bytes()).hexdigest()}"


def manifest_of(folder: Path, table, shards: list[str]) -> dict[str, object]:
    """Writes index and null texts; the manifest."""
    import pyarrow.parquet
    import torch

    from zoetrope.model.data.shards import raw_tensor, write_tensors

    pyarrow.parquet.write_table(table, folder / "index", compression="zstd", store_schema=False)
    write_tensors(folder / "null_t5", {"t5": raw_tensor(torch.zeros(1, T5))})
    write_tensors(folder / "null_clip", {"clip": raw_tensor(torch.zeros(CLIP))})
    return {
        "schema": "zoetrope.dataset.v1",
        "name": "bench",
        "index": referenced(folder, "index"),
        "index_bytes": (folder / "index").stat().st_size,
        "shards": [{"uri": uri} for uri in shards],
        "text": {"null_t5": referenced(folder, "null_t5"), "null_clip": referenced(folder, "null_clip")},
    }


def write_index(folder: Path, rows: int) -> None:
    """An index as encode writes it: identities of 64 digits, captions of about 600 characters, five checksums."""
    import pyarrow

    random = np.random.default_rng(0)
    ids = sorted(hashlib.sha256(str(number).encode()).hexdigest() for number in range(rows))
    words = [hashlib.md5(str(number).encode()).hexdigest()[: 3 + number % 6] for number in range(5000)]
    drawn = random.integers(0, 5000, (rows, 85), dtype=np.int16)
    table = {
        "clip_id": ids,
        "bucket": [BUCKET] * rows,
        "shard": np.arange(rows) // 400,
        "split": ["train"] * (rows - 1000) + ["held_out"] * 1000,
        "caption": [" ".join(words[word] for word in row) for row in drawn.tolist()],
        "t5_tokens": random.integers(30, 512, rows),
        **{f"checksum_{name}": random.integers(-(2**63), 2**63 - 1, rows) for name in sorted(KINDS)},
    }
    shards = [f"{number}.safetensors" for number in range(rows // 400 + 1)]
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps(manifest_of(folder, pyarrow.table(table), shards)))


def open_index(folder: Path) -> dict[str, float]:
    """Opens it in this process and touches a thousand rows."""
    import torch  # noqa: F401 - a rank has it

    from zoetrope.model.data import LatentDataset

    manifest = json.loads((folder / "manifest.json").read_text())
    before, peak_before, started = resident(), resident("VmHWM"), time.perf_counter()
    used = cpu()
    data = LatentDataset.open(manifest, read_of(folder), BUCKET, local=lambda uri: folder / uri, cache=folder)
    seconds, used = time.perf_counter() - started, cpu() - used
    after = resident()
    for row in np.random.default_rng(1).integers(0, len(data), 1000).tolist():
        assert len(data.clip_id(row)) == 64 and data.caption(row)
    return {
        "rows": float(len(data)),
        "seconds": seconds,
        "cpu": used,
        "opened": after - before,
        "used": resident() - before,
        "peak": resident("VmHWM") - peak_before,
    }


def index(rows: int, rounds: int) -> None:
    """The index in fresh processes; the first one makes the columns."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "data"
        write_index(folder, rows)
        print(f"index: {rows:,} rows, Parquet of {(folder / 'index').stat().st_size / 1e6:.0f} MB")
        found = []
        for _ in range(rounds + 1):
            command = [sys.executable, __file__, "--open-index", str(folder)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found.append(json.loads(done.stdout))
        first, later = found[0], found[1:]
        columns = sum(path.stat().st_size for path in folder.glob("index-*/*"))
        print(
            f"  the first: {first['seconds']:.2f} s ({first['cpu']:.2f} s of CPU), peak {first['peak']:.0f} MB"
            f", columns of {columns / 1e6:.0f} MB on disk"
        )
        for name, unit in (("seconds", "s"), ("opened", "MB"), ("used", "MB"), ("peak", "MB")):
            print(f"  each rank, {name}: {spread([each[name] for each in later])} {unit}")


def spread(values: list[float]) -> str:
    """Median and range."""
    return f"{statistics.median(values):.3f} [{min(values):.3f}, {max(values):.3f}]"


def write_shards(folder: Path, clips: int) -> dict[str, object]:
    """A dataset in bfloat16 at the size of stage 1 of the 11B model."""
    import pyarrow
    import torch

    from zoetrope.model.data.shards import ShardWriter, checksum, raw_tensor

    folder.mkdir()
    writer = ShardWriter(folder, 512_000_000)
    generator = torch.Generator().manual_seed(0)
    rows, shards = [], []
    for clip_id in sorted(hashlib.sha256(str(number).encode()).hexdigest() for number in range(clips)):
        shapes = {
            "latent": LATENT,
            "head": (16, 1, 32, 32),
            "tail": (16, 1, 32, 32),
            "t5": (TOKENS, T5),
            "clip": (CLIP,),
        }
        tensors = {
            f"{clip_id}/{name}" if name in ("t5", "clip") else f"{clip_id}/{BUCKET}/{name}": raw_tensor(
                torch.randn(shape, generator=generator).bfloat16()
            )
            for name, shape in shapes.items()
        }
        number, finished = writer.add(tensors)
        shards += [finished] if finished else []
        sums = {
            f"checksum_{name.rpartition('/')[2]}": checksum(each.dtype, each.shape, each.data)
            for name, each in tensors.items()
        }
        rows.append(
            {
                "clip_id": clip_id,
                "bucket": BUCKET,
                "shard": number,
                "split": "train",
                "caption": "a",
                "t5_tokens": TOKENS,
            }
            | sums
        )
    last = writer.close()
    shards += [last] if last else []
    return manifest_of(folder, pyarrow.Table.from_pylist(rows), [shard.path.name for shard in shards])


def rates(folder: Path, manifest: dict[str, object], rounds: int, batch: int) -> None:
    """GB a second of CPU, from the page cache."""
    import torch

    from zoetrope.model.data import LatentDataset, collate

    torch.set_num_threads(1)
    cases = {
        "local files, checksums each time": (lambda uri: folder / uri, "each"),
        "local files, checksums the first time": (lambda uri: folder / uri, "first"),
        "by the port, checksums the first time": (None, "first"),
    }
    data = {
        name: LatentDataset.open(manifest, read_of(folder), BUCKET, local=local, cache=folder, check=check)
        for name, (local, check) in cases.items()
    }
    found: dict[str, list[float]] = {}
    for number in range(rounds + 1):  # the first one compares, and is not counted
        for name, dataset in data.items():
            order = np.random.default_rng(number).permutation(len(dataset)).tolist()
            for what in ("fetch", "batch"):
                total, used = 0, cpu()
                for start in range(0, len(order), batch):
                    samples = dataset.fetch([(row, BUCKET) for row in order[start : start + batch]])
                    if what == "batch":
                        collate(samples)
                    total += sum(
                        tensor.nbytes
                        for sample in samples
                        for tensor in (sample.latent, sample.t5, sample.clip, *sample.references.values())
                    )
                if number:
                    found.setdefault(f"{name}, {what}", []).append(total / 1e9 / (cpu() - used))
    print(f"page cache: {len(order)} clips of {total / len(order) / 1e6:.2f} MB, {batch} at a time, GB a CPU-second")
    for name, values in found.items():
        print(f"  {name}: {spread(values)}")
    print(f"  BLAKE2b alone: {spread([blake2b_rate() for _ in range(rounds)])}")


def blake2b_rate() -> float:
    """GB a second of CPU of the format's checksum."""
    from zoetrope.model.data.shards import checksum

    data, used = bytes(1 << 26), cpu()
    checksum("U8", (len(data),), data)
    return len(data) / 1e9 / (cpu() - used)


def waits(folder: Path, manifest: dict[str, object], latency: float, compute: float, steps: int, batch: int) -> None:
    """Share of the time that a training waits for data."""
    from zoetrope.model.data import LatentDataset, Prefetcher

    print(
        f"reading ahead: {latency * 1e3:.0f} ms a range read, {compute * 1e3:.0f} ms of work a step, batches of {batch}"
    )
    for ahead, workers in ((0, 1), (2, 1), (4, 2)):
        data = LatentDataset.open(manifest, read_of(folder, latency), BUCKET, cache=folder)
        order = np.random.default_rng(0).permutation(len(data))

        def prepare(step: int, data: LatentDataset = data, order: np.ndarray = order):
            return data.batch(np.take(order, range(step * batch, (step + 1) * batch), mode="wrap").tolist())

        waited, started = 0.0, time.perf_counter()
        if ahead:
            with Prefetcher(prepare, ahead, workers) as batches:
                batches.get(0)
                begun, started = batches.data_wait, time.perf_counter()
                for step in range(1, steps):
                    batches.get(step)
                    busy(compute)
                waited = batches.data_wait - begun
        else:
            for step in range(1, steps):
                before = time.perf_counter()
                prepare(step)
                waited += time.perf_counter() - before
                busy(compute)
        share = waited / (time.perf_counter() - started)
        name = f"{ahead} ahead, {workers} thread(s)" if ahead else "without"
        print(f"  {name}: {100 * share:.1f} % of {steps - 1} steps' time is data wait")


def busy(seconds: float) -> None:
    """Works on one core, outside of Python as a training does."""
    end = time.perf_counter() + seconds
    block = bytes(1 << 16)
    while time.perf_counter() < end:
        hashlib.sha256(block).digest()


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--clips", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--latency", type=float, default=0.05, help="seconds")
    parser.add_argument("--compute", type=float, default=0.25, help="seconds a step")
    parser.add_argument("--only", choices=["index", "shards", "ahead"])
    parser.add_argument("--open-index", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.open_index:
        print(json.dumps(open_index(args.open_index)))
        return
    if args.only in (None, "index"):
        index(args.rows, args.rounds)
    if args.only != "index":
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "data"
            manifest = write_shards(folder, args.clips)
            os.sync()
            if args.only in (None, "shards"):
                rates(folder, manifest, args.rounds, args.batch)
            if args.only in (None, "ahead"):
                waits(folder, manifest, args.latency, args.compute, args.steps, args.batch)


if __name__ == "__main__":
    main()
