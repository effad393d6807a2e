"""The work of one process of the encode step: decode, encode with the autoencoder, encode the captions.

The autoencoder always sees batches of the configured size, the last one of a source filled up, and captions go one
by one: kernels are chosen by shape, so the bits of a sample depend on that sample alone, not on its neighbours nor
on the number of processes.
"""

from __future__ import annotations

import functools
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from zoetrope.components.encode.config import BucketConfig
from zoetrope.components.encode.jobs import (
    ClipJob,
    EncodedClip,
    EncodedSource,
    EncodedTexts,
    SourceJob,
    TextJob,
    WorkerSetup,
)
from zoetrope.infra.store import open_store
from zoetrope.model.autoencoders import load_autoencoder
from zoetrope.model.conditions import reference_frames
from zoetrope.model.data.shards import RawTensor, raw_tensor
from zoetrope.model.text import TextEncoders, build_tiny_text_encoders, load_text_encoders
from zoetrope.model.video import ClipRequest, read_clips

Frames = npt.NDArray[np.uint8]
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Encoder:
    """The models and settings of one process."""

    def __init__(self, setup: WorkerSetup) -> None:
        torch.set_num_threads(setup.config.threads)
        torch.use_deterministic_algorithms(True)
        self.setup = setup
        self.dtype = _DTYPES[setup.config.dtype]
        self.store = open_store(setup.store)
        self.autoencoder = load_autoencoder(**json.loads(setup.autoencoder), weights=Path(setup.weights))
        self.mean = torch.tensor(setup.latent_mean).view(1, -1, 1, 1, 1)
        self.std = torch.tensor(setup.latent_std).view(1, -1, 1, 1, 1)

    @functools.cached_property
    def text_encoders(self) -> TextEncoders:
        """Loaded by the processes that get captions to encode."""
        return _text_encoders(self.setup)

    def source(self, job: SourceJob) -> EncodedSource:
        """Encodes all clips of one source."""
        local = self.store.local_path(job.video)
        path = local or self.store.fetch(job.video, Path(self.setup.scratch) / job.source_id)
        try:
            frames = self._read(path, job.clips)
        finally:
            if local is None:
                path.unlink(missing_ok=True)
        readable = [clip for clip in job.clips if clip.clip_id in frames]
        parts: dict[str, dict[int, dict[str, Tensor]]] = {clip.clip_id: {} for clip in readable}
        for at in range(len(self.setup.config.buckets)):
            clips = [clip for clip in readable if at in clip.buckets]
            pictures = [frames[clip.clip_id][clip.buckets.index(at)] for clip in clips]
            for clip, latents in zip(clips, self._latents(pictures, at), strict=True):
                parts[clip.clip_id][at] = latents
        return EncodedSource(
            tuple(self._encoded(clip, parts[clip.clip_id]) for clip in readable),
            tuple(clip.clip_id for clip in job.clips if clip.clip_id not in frames),
        )

    def _read(self, path: Path, clips: Sequence[ClipJob]) -> dict[str, list[Frames]]:
        """Frames of each clip in each of its buckets; a clip that cannot be decoded is left out."""
        requests = {clip.clip_id: [self._request(clip, at) for at in clip.buckets] for clip in clips}
        try:
            decoded = iter(read_clips(path, [one for many in requests.values() for one in many]))
        except (ValueError, OSError):  # one bad clip: find out which
            return self._read_singly(path, requests)
        return {clip_id: [next(decoded) for _ in many] for clip_id, many in requests.items()}

    @staticmethod
    def _read_singly(path: Path, requests: Mapping[str, list[ClipRequest]]) -> dict[str, list[Frames]]:
        found = {}
        for clip_id, many in requests.items():
            try:
                found[clip_id] = read_clips(path, many)
            except (ValueError, OSError):  # av.error.FFmpegError is one or the other
                continue
        return found

    def _request(self, clip: ClipJob, bucket: int) -> ClipRequest:
        shape = self.setup.config.buckets[bucket]
        return ClipRequest(clip.start, clip.end, shape.frames, shape.fps, shape.height, shape.width, clip.crop)

    @torch.inference_mode()
    def _latents(self, clips: Sequence[Frames], bucket: int) -> Iterator[dict[str, Tensor]]:
        """head [C, 1, h, w], latent [C, T, h, w], tail [C, 1, h, w] of clips uint8 [T, H, W, 3], normalised.

        Longer references of both ends follow where the configuration asks for them.
        """
        config = self.setup.config
        size, shape = config.batch_size, config.buckets[bucket]
        lengths = {name: reference_frames(name, shape.frames) for name in config.references_of(shape)}
        for first in range(0, len(clips), size):
            group = list(clips[first : first + size])
            filled = np.stack(group + group[-1:] * (size - len(group)))
            video = torch.from_numpy(filled).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
            ends = self._encode(torch.cat([video[:, :, :1], video[:, :, -1:]]))
            latents = self._encode(video)
            longer = {f"head_{name}": self._encode(video[:, :, :count]) for name, count in lengths.items()}
            longer |= {f"tail_{name}": self._encode(video[:, :, -count:]) for name, count in lengths.items()}
            for at in range(len(group)):
                single = {"head": ends[at], "latent": latents[at], "tail": ends[size + at]}
                yield single | {name: latent[at] for name, latent in longer.items()}

    def _encode(self, video: Tensor) -> Tensor:
        latent: Tensor = self.autoencoder.encode(video.contiguous())
        return (latent - self.mean) / self.std

    def _encoded(self, clip: ClipJob, parts: Mapping[int, Mapping[str, Tensor]]) -> EncodedClip:
        tensors: dict[str, RawTensor] = {}
        statistics, shapes = {}, {}
        for at, latents in parts.items():
            bucket: BucketConfig = self.setup.config.buckets[at]
            for name, latent in latents.items():
                tensors[f"{clip.clip_id}/{bucket.name}/{name}"] = raw_tensor(latent.to(self.dtype))
            latent = latents["latent"]
            statistics[bucket.name] = {
                "latent_mean": float(latent.mean()),
                "latent_std": float(latent.std()),
                "latent_finite": float(all(bool(part.isfinite().all()) for part in latents.values())),
            }
            shapes[bucket.name] = tuple(latent.shape)
        return EncodedClip(clip, tensors, statistics, shapes)

    def texts(self, job: TextJob) -> EncodedTexts:
        """Embeds captions one by one."""
        embeddings = {}
        for caption in job.captions:
            t5, clip = self.text_encoders.encode_text([caption])
            embeddings[caption] = (raw_tensor(t5[0].to(self.dtype)), raw_tensor(clip[0].to(self.dtype)))
        return EncodedTexts(embeddings)


def work(setup: WorkerSetup, job: SourceJob | TextJob) -> EncodedSource | EncodedTexts:
    """One unit of work in a worker process."""
    encoder = _encoder(setup)
    return encoder.texts(job) if isinstance(job, TextJob) else encoder.source(job)


@functools.lru_cache(maxsize=1)
def _encoder(setup: WorkerSetup) -> Encoder:
    return Encoder(setup)


def _text_encoders(setup: WorkerSetup) -> TextEncoders:
    """Loads the encoders; tiny ones are built by whichever process comes first, for their bytes are the same."""
    t5, clip = Path(setup.t5_folder), Path(setup.clip_folder)
    text = setup.config.text
    if text.kind == "tiny" and not t5.parent.is_dir():
        t5.parent.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix="text-", dir=t5.parent.parent))
        build_tiny_text_encoders(part, json.loads(Path(setup.captions).read_text("utf-8")), text.seed)
        try:
            part.rename(t5.parent)
        except OSError:  # another process was faster
            shutil.rmtree(part)
    return load_text_encoders(t5, clip, max_tokens=text.t5_tokens, mode=text.mode)
