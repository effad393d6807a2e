"""Training steps of the MMDiT on one GPU: the trainer's own objective and engine on synthetic latents.

    python bench/train_gpu.py --out DIR [--small] [--device cpu] [--limit SECONDS] [--only M1 M5]

At full width and few blocks (5 double, 10 single: 3.2 billion weights in float32 with AdamW), bfloat16, each block
compiled, selective checkpointing unless said otherwise. A step is everything between two steps of the loop but the
reading of data: forward, backward, norm and clipping, AdamW. `mfu` is model FLOPs (model/flops.py; no recomputation)
over the step's time and the peak of the data sheet; `of product` the same over a large bfloat16 product measured here.
Last comes a fully deep model (19 + 38 blocks, weights and gradients in bfloat16, no optimizer). What does not fit, or
is not reached before the limit, is said and not guessed.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoetrope.model.data import LatentSample
from zoetrope.model.flow import FlowConfig
from zoetrope.model.mmdit.config import MMDiTConfig
from zoetrope.model.mmdit.model import MMDiT
from zoetrope.model.parallel.apply import prepare_blocks
from zoetrope.model.parallel.config import ParallelConfig
from zoetrope.model.parallel.start import on_meta
from zoetrope.model.parallel.step import accumulate
from zoetrope.model.training.config import OptimizerConfig, StageConfig
from zoetrope.model.training.diffusion import FlowObjective
from zoetrope.model.training.engine import Engine
from zoetrope.model.training.process_group import ProcessGroup, join_process_group
from zoetrope.model.training.throughput import peak_flops


@dataclass(frozen=True)
class Case:
    """One shape: samples of a step, their latents [C, T, H, W], text tokens, checkpointing."""

    name: str
    samples: int
    latent: tuple[int, int, int, int]
    text: int = 512
    checkpointing: Any = "selective"
    patch: int = 2


CASES = [
    Case("M1 256px 33 frames x12", 12, (16, 9, 32, 32)),
    Case("M2 256px 129 frames x3", 3, (16, 33, 32, 32)),
    Case("M3 768px 33 frames x1", 1, (16, 9, 96, 96)),
    Case("M8 DC-AE 768px 128 frames x1", 1, (128, 32, 24, 24), patch=1),
    Case("M4 768px 129 frames x1", 1, (16, 33, 96, 96), checkpointing="full"),
]
SMALL = [Case("small", 2, (16, 2, 4, 4), text=7), Case("small 2", 3, (16, 3, 4, 4), text=5)]


class Synthetic:
    """Random latents in the form of a dataset."""

    def __init__(self, case: Case, config: MMDiTConfig) -> None:
        draw = torch.Generator().manual_seed(0)
        self.null_t5, self.null_clip = torch.zeros(1, config.context_in_dim), torch.zeros(config.vec_in_dim)
        self.samples = [
            LatentSample(
                row=index,
                bucket="",
                clip_id=f"clip {index}",
                caption="",
                latent=torch.randn(case.latent, generator=draw),
                references={},
                t5=torch.randn(case.text, config.context_in_dim, generator=draw),
                clip=torch.randn(config.vec_in_dim, generator=draw),
            )
            for index in range(case.samples)
        ]

    def __len__(self) -> int:
        return len(self.samples)

    def rows(self, bucket: str) -> np.ndarray[Any, Any]:
        """All."""
        return np.arange(len(self), dtype=np.int32)

    def clip_id(self, row: int) -> str:
        """Identity."""
        return self.samples[row].clip_id

    def fetch(self, samples: Sequence[tuple[int, str]]) -> list[LatentSample]:
        """By row."""
        return [self.samples[row] for row, _ in samples]


def timed(run: Callable[[], object], device: torch.device, repeats: int) -> list[float]:
    """Seconds of each call, with the device's work."""
    seconds = []
    for _ in range(repeats):
        wait(device)
        start = time.perf_counter()
        run()
        wait(device)
        seconds.append(time.perf_counter() - start)
    return seconds


def wait(device: torch.device) -> None:
    """Until the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def product_rate(device: torch.device, size: int) -> float:
    """Operations per second of a square bfloat16 product of random matrices."""
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    timed(lambda: left @ right, device, 5)
    return 2 * size**3 / statistics.median(timed(lambda: left @ right, device, 20))


def stage_of(case: Case) -> StageConfig:
    """The stage: no dropped texts, so that every step of a case is alike."""
    return StageConfig(
        batch_size=case.samples,
        precision="bfloat16",
        deterministic=False,
        text_dropout=0.0,
        optimizer=OptimizerConfig(learning_rate=1e-5),
        parallel=ParallelConfig(shard=1, checkpointing=case.checkpointing, compile=True),
    )


def random_model(config: MMDiTConfig, stage: StageConfig, device: torch.device, dtype: torch.dtype) -> MMDiT:
    """As `start.start_model` on one process, with weights drawn on the device: on the host that took 50 s a case."""
    model = on_meta(config).to(dtype).to_empty(device=device)
    draw = torch.Generator(device).manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.02, generator=draw)
    model.choose_attention(stage.attention, torch.bfloat16)
    prepare_blocks(model, stage.parallel)
    return model


def measure(case: Case, config: MMDiTConfig, workers: ProcessGroup, steps: int, *, deep: bool) -> dict[str, Any]:
    """Step times of a case; `deep`: weights and gradients in bfloat16, no optimizer."""
    device = workers.device
    channels = case.latent[0] * case.patch**2
    shape = replace(config, in_channels=channels, patch_size=case.patch, cond_embed=False)
    stage = stage_of(case)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    model = random_model(shape, stage, device, torch.bfloat16 if deep else torch.float32)
    data = Synthetic(case, shape)
    objective = FlowObjective(shape, data, stage, FlowConfig(), workers)
    began = time.perf_counter()
    packs = [pack.to(device) for pack in objective.prepare(0, frozenset())]
    prepared = time.perf_counter() - began
    engine = None if deep else Engine(model, stage.optimizer, workers)
    if engine is not None:
        engine.begin()
    losses: list[Tensor] = []

    def step() -> None:
        run = objective.losses(model, packs, 0)
        if engine is None:
            model.zero_grad()
            losses.append(accumulate(model, run))
        else:
            losses.append(engine.backward(run))
            norm = engine.clip()
            engine.update(1e-5, (~torch.isfinite(norm)).float())
        for pack in packs:
            pack.losses.clear()

    began = time.perf_counter()
    step()
    wait(device)
    first = time.perf_counter() - began
    timed(step, device, 2)
    seconds = timed(step, device, steps)
    tokens, flops = objective.work(packs)
    median = statistics.median(seconds)
    values = [float(loss) for loss in losses]
    if not np.isfinite(values).all():
        raise RuntimeError(f"{case.name}: losses {values}")
    peak = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else None
    return {
        "case": case.name,
        "deep": deep,
        "tokens": tokens,
        "tflop": flops / 1e12,
        "seconds": median,
        "spread": [min(seconds), max(seconds)],
        "first_step": first,
        "prepare": prepared,
        "flops_per_second": flops / median,
        "peak_gib": peak,
        "attention": model.attention.name,
        "losses": [values[0], values[-1]],
        "blocks": [shape.depth, shape.depth_single_blocks],
    }


def main() -> None:
    """Runs the cases, writes `train_gpu.json` and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--small", action="store_true", help="tiny shapes, to try the script without a GPU")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--limit", type=float, default=480.0, help="seconds after which no case is begun")
    parser.add_argument("--only", nargs="*", default=[], help="first words of the cases to run, e.g. M4 M5")
    arguments = parser.parse_args()
    began = time.perf_counter()
    few = MMDiTConfig(depth=5, depth_single_blocks=10)
    tiny = MMDiTConfig(
        hidden_size=64, num_heads=4, depth=1, depth_single_blocks=1, axes_dim=(4, 6, 6), context_in_dim=32
    )
    base, cases = (tiny, SMALL) if arguments.small else (few, CASES)
    whole = replace(base, depth=2, depth_single_blocks=2) if arguments.small else MMDiTConfig()
    work = [(case, base, False) for case in cases] + [(replace(cases[0], name=f"M5 {cases[0].name}"), whole, True)]
    chosen = [each for each in work if not arguments.only or each[0].name.split()[0] in arguments.only]
    rows: list[dict[str, Any]] = []
    with join_process_group(4, deterministic=False, device=arguments.device) as workers:
        cuda = workers.device.type == "cuda"
        named = torch.cuda.get_device_name() if cuda else platform.processor()
        peak = peak_flops(named, "bfloat16")
        rate = product_rate(workers.device, 8192 if cuda else 256)
        print(f"{named}, torch {torch.__version__}; product {rate / 1e12:.1f} TFLOP/s", flush=True)
        for case, config, deep in chosen:
            if time.perf_counter() - began > arguments.limit:
                print(f"{case.name}: not begun, the limit has passed", flush=True)
                continue
            try:
                row = measure(case, config, workers, arguments.steps, deep=deep)
            except torch.OutOfMemoryError as error:
                rows.append({"case": case.name, "deep": deep, "failed": str(error).splitlines()[0]})
                print(f"{case.name}: does not fit: {rows[-1]['failed'][:200]}", flush=True)
            else:
                row["mfu"] = row["flops_per_second"] / peak if peak else None
                row["of_product"] = row["flops_per_second"] / rate
                rows.append(row)
                share = "mfu unknown" if row["mfu"] is None else f"mfu {row['mfu']:.1%}"
                memory = "" if row["peak_gib"] is None else f"peak {row['peak_gib']:.1f} GiB, "
                print(
                    f"{case.name}: {row['tokens']} tokens, {row['seconds']:.3f} s "
                    f"({row['spread'][0]:.3f} to {row['spread'][1]:.3f}), {row['tflop']:.0f} TFLOP, "
                    f"{share}, of product {row['of_product']:.1%}, {memory}"
                    f"first step {row['first_step']:.0f} s, {row['attention']}, at {time.perf_counter() - began:.0f} s",
                    flush=True,
                )
            if cuda:
                torch.cuda.empty_cache()
            written = {"device": named, "torch": torch.__version__, "product": rate, "peak": peak, "rows": rows}
            arguments.out.mkdir(parents=True, exist_ok=True)
            (arguments.out / "train_gpu.json").write_text(json.dumps(written, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
