"""The golden numbers of the code as it is: a few steps of each training, and digests of footage and what follows."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tests.golden.files import Numbers, libraries
from zoetrope.components.curate.step import curate
from zoetrope.components.ingest.footage import render_footage
from zoetrope.components.ingest.step import ingest
from zoetrope.infra.references import digest_json
from zoetrope.infra.steps import StepContext
from zoetrope.infra.store import get_json, get_table, open_store
from zoetrope.model.autoencoders.dc_ae import VideoDCAE
from zoetrope.model.data import LatentSample, collate
from zoetrope.model.flops import mmdit_parameters
from zoetrope.model.flow import FlowConfig
from zoetrope.model.mmdit import MMDiTConfig
from zoetrope.model.mmdit.model import MMDiT
from zoetrope.model.sampling import SamplerConfig, TextCondition, sample_latents
from zoetrope.model.stages import stage_config
from zoetrope.model.text import TinyTextConfig, build_tiny_text_encoders, load_text_encoders
from zoetrope.model.training.autoencoder import train_autoencoder
from zoetrope.model.training.config import AdversarialConfig, LossesConfig
from zoetrope.model.training.diffusion import train_diffusion
from zoetrope.model.training.loop import TrainingResult
from zoetrope.model.training.process_group import ProcessGroup, batch_indices
from zoetrope.model.video import read_clip
from zoetrope.pipelines.recipe.recipe import Recipe, load_recipe

TINY = str(Path(__file__).parents[1] / "recipes" / "tiny.yaml")
STEPS = 3
SCORES = ("start", "end", "frames", "motion", "blur", "jitter", "text_area", "bars_area", "perceptual_hash")


class Metrics:
    """Keeps losses and gradient norms."""

    def __init__(self) -> None:
        self.loss: list[float] = []
        self.gradient_norm: list[float] = []

    def log(self, step: int, values: Any) -> None:
        self.loss.append(values["loss"])
        self.gradient_norm.append(values["gradient_norm"])

    def numbers(self, result: TrainingResult) -> Numbers:
        return {"loss": self.loss, "gradient_norm": self.gradient_norm, "weights": of_tensors(result.weights)}


@dataclass
class Noise:
    """Random latents and texts in the shapes of nano's bucket of 48 pixels."""

    shape: tuple[int, ...]
    null_t5 = torch.zeros(1, 64)
    null_clip = torch.zeros(64)

    def __len__(self) -> int:
        return 8

    def rows(self, bucket: str) -> npt.NDArray[np.int32]:
        return np.arange(len(self), dtype=np.int32)

    def clip_id(self, row: int) -> str:
        return str(row)

    def fetch(self, samples: Sequence[tuple[int, str]]) -> list[LatentSample]:
        return [self._clip(row, bucket) for row, bucket in samples]

    def _clip(self, row: int, bucket: str) -> LatentSample:
        latent, t5, clip = self._sample(row)
        ends = {"head": latent[:, :1], "tail": latent[:, -1:]}
        return LatentSample(row, bucket, str(row), "", latent, ends, t5, clip)

    def _sample(self, index: int) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(index)
        return [torch.randn(shape, generator=generator) for shape in (self.shape, (5, 64), (64,))]


@dataclass
class Clips:
    """Random clips."""

    frames: Any

    def __len__(self) -> int:
        return len(self.frames)

    def batch(self, indices: Sequence[int]) -> Any:
        return self.frames[list(indices)]


@contextmanager
def as_a_worker() -> Iterator[None]:
    """One thread and deterministic kernels, as a training job has them."""
    former = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    yield
    torch.set_num_threads(former[0])
    torch.use_deterministic_algorithms(former[1])


def of_bytes(*parts: bytes) -> str:
    """Digest, short: a golden number is compared and not looked up."""
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def of_tensors(tensors: Any) -> str:
    """Digest of names and values."""
    return of_bytes(*(name.encode() + tensors[name].contiguous().numpy().tobytes() for name in sorted(tensors)))


def anywhere() -> Numbers:
    """What no CPU changes."""
    nano = load_recipe("nano")
    with tempfile.TemporaryDirectory() as folder:
        truth = _footage(nano, Path(folder), films=2)[1]
    return {
        "nano.parameters": mmdit_parameters(MMDiTConfig.nano()),
        "nano.order": batch_indices(606, 16, 37, nano.stages.stage_1.seed, ProcessGroup()),
        "nano.truth_of_two_films": truth,
    }


def here() -> Numbers:
    """What this type of CPU, and these versions of libraries, give."""
    with as_a_worker(), tempfile.TemporaryDirectory() as folder:
        numbers = {name: compute(Path(folder) / name) for name, compute in PARTS.items()}
    return {**numbers, "libraries": libraries()}


def _stage(name: str) -> Callable[[Path], Numbers]:
    def compute(folder: Path) -> Numbers:
        stage = replace(stage_config(name), steps=STEPS, batch_size=4, log_every=1, save_every=0)
        model = MMDiT(replace(MMDiTConfig.nano(), cond_embed=stage.takes_images)).initialise(0)
        metrics = Metrics()
        return metrics.numbers(train_diffusion(model, _noise(), stage, FlowConfig(), ProcessGroup(), metrics))

    return compute


def _noise() -> Noise:
    return Noise((MMDiTConfig.nano().latent_channels, 4, 6, 6))


def _autoencoder(folder: Path) -> Numbers:
    config = load_recipe("nano").autoencoder
    metrics = Metrics()
    clips = Clips(np.random.default_rng(0).integers(0, 256, (4, 8, 48, 48, 3), np.uint8))
    losses = LossesConfig(adversarial=AdversarialConfig(start=1, channels=4, layers=2))
    training = replace(config.training, steps=STEPS, batch_size=2, log_every=1, save_every=0, losses=losses)
    model = VideoDCAE(config.architecture).initialise(0)
    return metrics.numbers(train_autoencoder(model, clips, training, ProcessGroup(), metrics))


def _text(folder: Path) -> Numbers:
    captions = ["a red circle moving left", "a blue square"]
    t5, clip = build_tiny_text_encoders(folder, captions, 11, TinyTextConfig())
    rows, pooled = load_text_encoders(t5, clip).encode_text(captions)
    return {"t5": of_tensors({str(at): row for at, row in enumerate(rows)}), "clip": of_tensors({"": pooled})}


def _sample(folder: Path) -> Numbers:
    model, generator = MMDiT(MMDiTConfig.nano()).initialise(0).eval(), torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data += 0.02 * torch.randn(parameter.shape, generator=generator)
    batch = collate(_noise().fetch([(0, "noise")]))
    text = TextCondition([batch.t5[0]], batch.clip, [Noise.null_t5], Noise.null_clip[None])
    latent = sample_latents(model, SamplerConfig(steps=2), FlowConfig(), text, tuple(batch.latent.shape[1:]), [3])
    return {"latent": of_tensors({"": latent}), "mean": latent.mean().item()}


def _footage(recipe: Recipe, folder: Path, films: int) -> tuple[str, str]:
    """Digests of the films, and of the truth about them."""
    config = recipe.source.samples
    assert config is not None
    render_footage(folder, config.model_copy(update={"films": films}))
    videos = sorted(folder.glob("*.mp4"))
    truth = json.loads((folder / "truth.json").read_text())["files"]
    return of_bytes(*(path.name.encode() + path.read_bytes() for path in videos)), digest_json(truth)[:16]


def _nano_footage(folder: Path) -> Numbers:
    return {"two_films": _footage(load_recipe("nano"), folder, 2)[0]}


def _tiny_data(folder: Path) -> Numbers:
    """Footage, its clips and their scores, and the latent of the first clip."""
    recipe = load_recipe(TINY)
    (folder / "work").mkdir(parents=True)
    context = StepContext("curate", open_store(folder / "store"), folder / "work", folder / "run")
    sources = str(ingest(recipe.ingest.model_copy(update={"workers": 1}), recipe.source, context).product)
    clips = str(curate(recipe.curate.model_copy(update={"workers": 1}), sources, context).product)
    store = context.store
    found = get_table(store, get_json(store, sources)["table"]).select(["source_id", "name", "status"]).to_pylist()
    rows = get_table(store, get_json(store, clips)["table"]).to_pylist()
    rows.sort(key=lambda row: (row["source_id"], Fraction(row["start"])))
    path = store.local_path(rows[0]["video"].rpartition("@")[0])
    assert path is not None
    frames = read_clip(path, Fraction(rows[0]["start"]), Fraction(rows[0]["end"]), 8, 8, height=48, width=48)
    video = torch.from_numpy(frames).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    with torch.no_grad():
        latent = VideoDCAE(recipe.autoencoder.architecture).initialise(0).eval().encode(video)
    return {
        "sources": digest_json(sorted(found, key=lambda row: row["name"]))[:16],
        "scores": digest_json([[row["source_id"], *(row[name] for name in SCORES)] for row in rows])[:16],
        "kept": sum(row["kept"] for row in rows),
        "frames": of_bytes(frames.tobytes()),
        "latent": of_tensors({"": latent}),
    }


PARTS: dict[str, Callable[[Path], Numbers]] = {
    "nano.stage_1": _stage("nano_stage_1"),
    "nano.stage_2": _stage("nano_stage_2"),
    "nano.stage_3": _stage("nano_stage_3"),
    "nano.autoencoder": _autoencoder,
    "nano.text": _text,
    "nano.sample": _sample,
    "nano.footage": _nano_footage,
    "tiny.data": _tiny_data,
}
