"""Does nano learn? Trains autoencoder and stages on sample footage and judges held-out prompts from pixels.

    python -m torch.distributed.run --standalone --nproc-per-node 2 bench/nano_learning.py --work DIR

Footage, clips and the trained autoencoder are kept in DIR for the next run. Printed per phase: steps, wall and CPU
seconds, loss, and after each stage the colour and direction accuracy on prompts whose (colour, direction) pairs no
clip shows. CPU seconds are those of one worker: on two free cores they are about the wall time.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import binomtest

from zoetrope.components.generate.config import GenerateConfig
from zoetrope.components.ingest.footage import FootageConfig, render_footage
from zoetrope.components.ingest.footage.paint import RGB, STEPS
from zoetrope.components.train.config import AutoencoderStepConfig, ModelConfig
from zoetrope.model.autoencoders.dc_ae import VideoDCAE
from zoetrope.model.checkpoint import load_weights, save_weights
from zoetrope.model.data import LatentSample
from zoetrope.model.mmdit.model import MMDiT
from zoetrope.model.sampling import TextCondition, sample_latents
from zoetrope.model.stages import stage_config
from zoetrope.model.text import TextEncoders, build_tiny_text_encoders, load_text_encoders
from zoetrope.model.training.autoencoder import latent_statistics, to_pixels, train_autoencoder
from zoetrope.model.training.diffusion import train_diffusion
from zoetrope.model.training.process_group import ProcessGroup, join_process_group
from zoetrope.model.video import ClipRequest, read_clips

FRAMES, FPS = 16, 8.0
SIZES = (48, 64)
PIXELS = np.uint8


@dataclass
class Clips:
    """Decoded clips in memory."""

    frames: np.ndarray[Any, Any]

    def __len__(self) -> int:
        return len(self.frames)

    def batch(self, indices: Sequence[int]) -> np.ndarray[Any, Any]:
        """uint8 [B, T, H, W, 3]."""
        return self.frames[list(indices)]


@dataclass
class Latents:
    """An encoded bucket in memory, with the interface of `LatentDataset`."""

    latent: torch.Tensor
    head: torch.Tensor
    tail: torch.Tensor
    t5: list[torch.Tensor]
    clip: torch.Tensor
    null_t5: torch.Tensor
    null_clip: torch.Tensor

    def __len__(self) -> int:
        return len(self.latent)

    def rows(self, bucket: str) -> np.ndarray[Any, Any]:
        """All of them."""
        return np.arange(len(self), dtype=np.int32)

    def clip_id(self, row: int) -> str:
        """Its position."""
        return str(row)

    def fetch(self, samples: Sequence[tuple[int, str]]) -> list[LatentSample]:
        """Samples by position."""
        return [self._sample(row, bucket) for row, bucket in samples]

    def _sample(self, row: int, bucket: str) -> LatentSample:
        ends = {"head": self.head[row], "tail": self.tail[row]}
        return LatentSample(row, bucket, str(row), "", self.latent[row], ends, self.t5[row], self.clip[row])


class Printer:
    """Prints metrics now and then."""

    def __init__(self, every: int) -> None:
        self.every = every

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """One line."""
        if step % self.every == 0:
            print(f"  {step:5d} " + " ".join(f"{k} {v:.4g}" for k, v in values.items()), flush=True)


@contextmanager
def phase(name: str, workers: ProcessGroup) -> Iterator[None]:
    """Prints wall and CPU seconds of a phase."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    if workers.first:
        print(f"{name}: {time.perf_counter() - wall:.1f} s wall, {time.process_time() - cpu:.1f} s CPU", flush=True)


def prepare(work: Path) -> None:
    """Footage to clips and captions, once."""
    if (work / "captions.json").exists():
        return
    footage = work / "footage"
    footage.mkdir(parents=True, exist_ok=True)
    render_footage(footage, FootageConfig(seed=7))
    truth = json.loads((footage / "truth.json").read_text())
    clips: dict[int, list[Any]] = {size: [] for size in SIZES}
    captions = []
    for file in truth["files"]:
        shots = [shot for shot in file["shots"] if not shot["defect"]]
        if file["copy_of"] or file["defect"]:
            continue
        requests = [
            ClipRequest(Fraction(shot["start"]), Fraction(shot["end"]), FRAMES, FPS, size, size)
            for shot in shots
            for size in SIZES
        ]
        for request, frames in zip(requests, read_clips(footage / file["path"], requests), strict=True):
            clips[request.height].append(frames)
        captions += [shot["caption"] for shot in shots]
    for size, frames in clips.items():
        np.save(work / f"clips_{size}.npy", np.stack(frames))
    (work / "captions.json").write_text(json.dumps(captions))


def trained_autoencoder(work: Path, workers: ProcessGroup, config: AutoencoderStepConfig) -> VideoDCAE:
    """Trains it, or loads the one of the last run."""
    path = work / "autoencoder.safetensors"
    model = VideoDCAE(config.architecture).initialise(config.training.seed)
    if path.exists():
        load_weights(model, path)
        return model.eval()
    clips = Clips(np.load(work / f"clips_{config.height}.npy"))
    with phase(f"autoencoder {config.training.steps} steps", workers):
        result = train_autoencoder(model, clips, config.training, workers, Printer(100))
    workers.wait()
    model.load_state_dict(result.weights)
    if workers.first:
        save_weights(result.weights, path)
        held = to_pixels(np.load(work / "clips_64.npy")[::23])
        with torch.inference_mode():
            print(f"  mean absolute error at 64 pixels: {(model(held) - held).abs().mean():.4f}", flush=True)
    workers.wait()
    return model.eval()


def encode(
    model: VideoDCAE, frames: np.ndarray[Any, Any], statistics: Any, captions: list[str], text: TextEncoders
) -> Latents:
    """All clips of one size."""
    mean, std = (torch.tensor(values).view(-1, 1, 1, 1) for values in statistics)
    parts: dict[str, list[torch.Tensor]] = {"latent": [], "head": [], "tail": []}
    with torch.inference_mode():
        for start in range(0, len(frames), 16):
            video = to_pixels(frames[start : start + 16])
            for name, part in (("latent", video), ("head", video[:, :, :1]), ("tail", video[:, :, -1:])):
                parts[name].append((model.encode(part) - mean) / std)
    t5, clip = text.encode_text(captions)
    latent, head, tail = (torch.cat(parts[name]).clone() for name in ("latent", "head", "tail"))
    return Latents(latent, head, tail, t5, clip.clone(), *text.null())


def judge(videos: np.ndarray[Any, Any], prompts: Sequence[Mapping[str, Any]]) -> str:
    """Colour and direction accuracy from pixels, with their p-values."""
    names, palette = list(RGB), np.array(list(RGB.values()), float)
    colors = directions = 0
    for video, prompt in zip(videos.astype(float), prompts, strict=True):
        saturation = video.max(-1) - video.min(-1)
        inside = saturation > max(60.0, 0.5 * saturation.max())
        if not inside.any():
            continue
        distance = np.linalg.norm(video[inside][:, None] - palette[None], axis=-1)
        colors += names[np.bincount(distance.argmin(1)).argmax()] == prompt["attributes"]["color"]
        centres = [np.argwhere(mask).mean(0) for mask in inside if mask.sum() > 8]
        if len(centres) < 4:
            continue
        quarter = max(1, len(centres) // 4)
        moved = np.mean(centres[-quarter:], 0) - np.mean(centres[:quarter], 0)
        scores = {name: moved[1] * step[0] + moved[0] * step[1] for name, step in STEPS.items() if name}
        directions += max(scores, key=lambda name: scores[name]) == prompt["attributes"]["direction"]
    count = len(prompts)
    p_color = binomtest(colors, count, 1 / 6, alternative="greater").pvalue
    p_direction = binomtest(directions, count, 1 / 4, alternative="greater").pvalue
    return f"colour {colors / count:.0%} (p {p_color:.1g}), direction {directions / count:.0%} (p {p_direction:.1g})"


@dataclass
class Bench:
    """What judging needs."""

    work: Path
    workers: ProcessGroup
    autoencoder: VideoDCAE
    statistics: Any
    text: TextEncoders
    model: ModelConfig

    def score(self, transformer: MMDiT, size: int, count: int) -> str:
        """Generates held-out prompts and judges them."""
        prompts = json.loads((self.work / "footage" / "prompts.json").read_text())
        prompts = [prompts[index % len(prompts)] for index in range(count)]
        shape = self.autoencoder.config.latent_shape(FRAMES, size, size)
        t5, clip = self.text.encode_text([prompt["prompt"] for prompt in prompts])
        null_t5, null_clip = self.text.null()
        condition = TextCondition(t5, clip, [null_t5] * count, null_clip.expand(count, -1))
        seeds = range(1000, 1000 + count)
        sampler = GenerateConfig().sampler
        latent = sample_latents(transformer.eval(), sampler, self.model.flow, condition, shape, seeds)
        transformer.train()
        mean, std = (torch.tensor(values).view(-1, 1, 1, 1) for values in self.statistics)
        with torch.inference_mode():
            videos = torch.cat([self.autoencoder.decode(part * std + mean) for part in latent.split(8)])
        pixels = ((videos.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 4, 1).numpy()
        np.save(self.work / "videos.npy", pixels)
        return judge(pixels, prompts)


def run_stages(bench: Bench, args: argparse.Namespace, data: Mapping[int, Latents]) -> None:
    """Trains the stages one after another and judges after each."""
    weights: dict[str, torch.Tensor] = {}
    for number, name in enumerate(args.stages.split(","), start=1):
        stage = stage_config(name)
        optimizer = stage.optimizer
        if args.learning_rate and number == 1:
            optimizer = replace(optimizer, learning_rate=args.learning_rate)
        steps = int(args.steps.split(",")[number - 1]) if args.steps else stage.steps
        stage = replace(stage, steps=steps, optimizer=optimizer, save_every=0)
        size = int(stage.bucket.partition("px")[0])
        model = MMDiT(replace(bench.model.mmdit, cond_embed=stage.takes_images)).initialise(args.seed)
        if not weights and bench.workers.first:
            count = sum(parameter.numel() for parameter in model.parameters())
            print(f"{count} parameters; untrained: {bench.score(model, 64, 96)}", flush=True)
        bench.workers.wait()
        if weights:
            model.load_state_dict(weights, strict=False)
        with phase(f"{name}: {steps} steps", bench.workers):
            result = train_diffusion(model, data[size], stage, bench.model.flow, bench.workers, Printer(100))
        weights = result.weights
        if bench.workers.first:
            save_weights(weights, bench.work / f"{name}.safetensors")
        averaged = MMDiT(model.config)
        averaged.load_state_dict(weights)
        if bench.workers.first:
            with phase("  generation", bench.workers):
                print(f"  {name} judged: {bench.score(averaged, size, 96)}", flush=True)
        bench.workers.wait()


def main() -> None:
    """Runs all phases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder that keeps footage and autoencoder")
    parser.add_argument("--stages", default="nano_stage_1,nano_stage_2,nano_stage_3")
    parser.add_argument("--steps", default="", help="steps of each stage, instead of the configured ones")
    parser.add_argument("--learning-rate", type=float, default=0.0, help="of the first stage")
    parser.add_argument("--seed", type=int, default=0, help="of the first weights")
    parser.add_argument("--model", default="{}", help="JSON: changes of the MMDiT's config")
    parser.add_argument("--autoencoder-steps", type=int, default=0, help="instead of the configured ones")
    parser.add_argument("--autoencoder-only", action="store_true")
    args = parser.parse_args()
    with join_process_group() as workers:
        if workers.first:
            prepare(args.work)
        workers.wait()
        settings = AutoencoderStepConfig()
        if args.autoencoder_steps:
            training = replace(settings.training, steps=args.autoencoder_steps)
            settings = settings.model_copy(update={"training": training})
        autoencoder = trained_autoencoder(args.work, workers, settings)
        if args.autoencoder_only:
            return
        captions = json.loads((args.work / "captions.json").read_text())
        if workers.first:
            build_tiny_text_encoders(args.work / "text", captions, 11)
        workers.wait()
        text = load_text_encoders(args.work / "text" / "t5", args.work / "text" / "clip")
        clips = {size: np.load(args.work / f"clips_{size}.npy") for size in SIZES}
        statistics = latent_statistics(autoencoder, Clips(clips[64]))
        with phase("encoding", workers):
            data = {size: encode(autoencoder, clips[size], statistics, captions, text) for size in SIZES}
        model = ModelConfig()
        model = ModelConfig(mmdit=replace(model.mmdit, **json.loads(args.model)))
        run_stages(Bench(args.work, workers, autoencoder, statistics, text, model), args, data)


if __name__ == "__main__":
    main()
