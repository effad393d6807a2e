"""The work of one process of the encode step: decode, encode with the autoencoder, encode the captions.

The autoencoder always sees batches of the configured size, the last one of a source filled up, and captions go one
by one: kernels are chosen by shape, so the bits of a sample depend on that sample alone, not on its neighbours nor
on the number of processes.
"""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from pydantic import TypeAdapter
from torch import Tensor

from zoetrope.components.encode.config import BucketConfig
from zoetrope.components.encode.tasks import (
    ClipTask,
    EncodedClip,
    EncodedSource,
    EncodedUnit,
    EncodeUnit,
    Setup,
    SourceTask,
    TextParts,
)
from zoetrope.components.encode.text import stored_folder
from zoetrope.components.encode.writing import UnitWriter
from zoetrope.infra.store import borrowed_copy, get_json, local_copy, local_folder, put_file_content
from zoetrope.infra.workers import WorkerContext
from zoetrope.model.autoencoders import load_autoencoder
from zoetrope.model.conditions import reference_frames
from zoetrope.model.data.shards import RawTensor, raw_tensor, write_tensors
from zoetrope.model.text import TextEncoders, build_tiny_text_encoders, load_text_encoders
from zoetrope.model.video import ClipRequest, read_clips

Frames = npt.NDArray[np.uint8]
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Encoder:
    """The models and settings of one process."""

    def __init__(self, setup: Setup, worker_context: WorkerContext) -> None:
        torch.set_num_threads(setup.config.threads)
        torch.use_deterministic_algorithms(True)
        self.setup = setup
        self.dtype = _DTYPES[setup.config.dtype]
        self.store, self.scratch = worker_context.store, worker_context.scratch
        with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
            weights = local_copy(self.store, setup.weights, Path(folder), "autoencoder")
            self.autoencoder = load_autoencoder(**json.loads(setup.autoencoder), weights=weights)
        self.mean = torch.tensor(setup.latent_mean).view(1, -1, 1, 1, 1)
        self.std = torch.tensor(setup.latent_std).view(1, -1, 1, 1, 1)

    def unit(self, sources: Sequence[SourceTask]) -> EncodedUnit:
        """Encodes some sources into shards."""
        texts = self._texts(sources)
        unreadable: list[str] = []
        with tempfile.TemporaryDirectory(prefix="shards-", dir=self.scratch) as folder:
            writer = UnitWriter(self.setup.config, self.store, Path(folder))
            for source in sources:
                encoded = self.source(source)
                for clip in encoded.clips:
                    writer.add(clip, texts)
                unreadable.extend(encoded.unreadable)
            writer.close()
        return EncodedUnit(writer.shards, writer.rows, writer.shapes, unreadable, self.text_parts)

    @functools.cached_property
    def text_parts(self) -> TextParts:
        """What the manifest says about text; equal in all processes."""
        t5, clip = self._embedding("")
        null = {}
        with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
            for name, tensor in (("t5", t5), ("clip", clip)):
                path = Path(folder) / f"null_{name}.safetensors"
                write_tensors(path, {name: tensor})
                null[name] = str(put_file_content(self.store, path))
        given = self._text[1]
        return TextParts(given[0], given[1], null["t5"], null["clip"])

    def _texts(self, sources: Sequence[SourceTask]) -> dict[str, tuple[RawTensor, RawTensor]]:
        """Embeddings of the captions, each once: captions go one by one."""
        captions = sorted({clip.caption for source in sources for clip in source.clips})
        return {caption: self._embedding(caption) for caption in captions}

    def _embedding(self, caption: str) -> tuple[RawTensor, RawTensor]:
        t5, clip = self._text[0].encode_text([caption])
        return raw_tensor(t5[0].to(self.dtype)), raw_tensor(clip[0].to(self.dtype))

    @functools.cached_property
    def _text(self) -> tuple[TextEncoders, tuple[dict[str, str], dict[str, str]]]:
        """The text encoders and the references of their files."""
        setup, text = self.setup, self.setup.config.text
        with tempfile.TemporaryDirectory(prefix="text-", dir=self.scratch) as name:
            folder = Path(name)
            if text.kind == "tiny":
                t5, clip = build_tiny_text_encoders(folder / "tiny", get_json(self.store, setup.words), text.seed)
                files = stored_folder(self.store, t5), stored_folder(self.store, clip)
            else:
                t5 = local_folder(self.store, setup.t5, folder / "t5")
                clip = local_folder(self.store, setup.clip, folder / "clip")
                files = setup.t5, setup.clip
            return load_text_encoders(t5, clip, max_tokens=text.t5_tokens, mode=text.mode), files

    def source(self, job: SourceTask) -> EncodedSource:
        """Encodes all clips of one source."""
        with borrowed_copy(self.store, job.video, self.scratch / job.source_id, "ingest") as path:
            frames = self._read(path, job.clips)
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

    def _read(self, path: Path, clips: Sequence[ClipTask]) -> dict[str, list[Frames]]:
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

    def _request(self, clip: ClipTask, bucket: int) -> ClipRequest:
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

    def _encoded(self, clip: ClipTask, parts: Mapping[int, Mapping[str, Tensor]]) -> EncodedClip:
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


def work(unit: EncodeUnit, worker_context: WorkerContext) -> EncodedUnit:
    """One unit of work in a worker process."""
    worker_context.scratch.mkdir(parents=True, exist_ok=True)
    return _encoder(unit.setup, worker_context).unit(unit.sources)


@functools.lru_cache(maxsize=1)
def _encoder(setup: str, worker_context: WorkerContext) -> Encoder:
    return Encoder(TypeAdapter(Setup).validate_python(get_json(worker_context.store, setup)), worker_context)
