"""Decoded clips for the autoencoder: read once a node, by all of its workers, into one file that they map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zoetrope.components.train.config import AutoencoderStepConfig
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.steps import StepContext
from zoetrope.infra.store import Store, borrowed_copy, get_json, get_table
from zoetrope.model.training.heartbeat import STARTING
from zoetrope.model.training.process_group import ProcessGroup
from zoetrope.model.video import ClipRequest, read_clips

Frames = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class MappedClips:
    """Clips in a memory-mapped file.

    Attributes:
        frames: uint8 [N, T, H, W, 3].
        rows: the rows of `frames` that hold a clip.
    """

    frames: Frames
    rows: Sequence[int]

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, indices: Sequence[int]) -> Frames:
        """Clips by position: uint8 [B, T, H, W, 3]."""
        return np.stack([self.frames[self.rows[index]] for index in indices])


def decode_clips(
    config: AutoencoderStepConfig, captions: str, context: StepContext, workers: ProcessGroup
) -> MappedClips:
    """Decodes the training clips; the workers of a node share the sources among them, and return when all are done.

    Clips that are too short or cannot be decoded are left out.

    Args:
        config: shape and number of clips.
        captions: reference of a `zoetrope.captions.v1` product.
        context: store and the scratch folder that the workers of a node share.
        workers: who takes part.

    Raises:
        ZoetropeError: no clip is left.
    """
    rows = training_rows(config, captions, context.store)
    frames_path, done_path = context.work / "clips.npy", context.work / "decoded.npy"
    shape = (len(rows), config.frames, config.height, config.width, 3)
    local_rank, local_world = workers.on_node
    if workers.first:
        context.progress(f"decoding {len(rows)} clips")
    if local_rank == 0:
        context.work.mkdir(parents=True, exist_ok=True)
        np.lib.format.open_memmap(frames_path, "w+", np.uint8, shape).flush()
        np.lib.format.open_memmap(done_path, "w+", np.bool_, (len(rows),)).flush()
    workers.wait()
    frames, done = np.load(frames_path, mmap_mode="r+"), np.load(done_path, mmap_mode="r+")
    sources: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        sources.setdefault(row["video"], []).append(index)
    for video in sorted(sources)[local_rank::local_world]:
        workers.heartbeat.begin(STARTING)
        chosen = sources[video]
        for index, clip in _decode(config, [rows[index] for index in chosen], video, chosen, context).items():
            frames[index], done[index] = clip, True
    frames.flush()
    done.flush()
    workers.wait()
    complete = np.flatnonzero(np.load(done_path)).tolist()
    if not complete:
        raise ZoetropeError(
            f"autoencoder: none of {len(rows)} clips could be decoded",
            "the source videos may have changed since they were curated: run the ingest step again",
        )
    return MappedClips(np.load(frames_path, mmap_mode="r"), complete)


def training_rows(config: AutoencoderStepConfig, captions: str, store: Store) -> list[dict[str, Any]]:
    """Captioned clips of the training split that are long enough, in the order of their identity."""
    product = get_json(store, captions)
    texts = {row["clip_id"]: row["split"] for row in get_table(store, product["table"]).to_pylist()}
    clips = get_table(store, get_json(store, product["clips"])["table"]).to_pylist()
    training = [row for row in clips if texts.get(row["clip_id"]) == "train"]
    needed = Fraction(config.frames - 1) / Fraction(config.fps).limit_denominator(1001)
    rows = [row for row in training if Fraction(row["end"]) - Fraction(row["start"]) > needed]
    if not rows:
        raise ZoetropeError(
            f"autoencoder: none of {len(training)} training clips is longer than the {float(needed):.2f} s that "
            f"{config.frames} frames at {config.fps:g} a second take",
            "give longer videos, or lower autoencoder.frames or raise autoencoder.fps",
        )
    return sorted(rows, key=lambda row: str(row["clip_id"]))[: config.clips]


def _decode(
    config: AutoencoderStepConfig,
    rows: Sequence[Mapping[str, Any]],
    video: str,
    indices: Sequence[int],
    context: StepContext,
) -> dict[int, Frames]:
    """Clips of one source by index; if one of them is bad, they are read one by one."""
    requests = [_request(config, row) for row in rows]
    with borrowed_copy(context.store, video, context.work / f"source-{indices[0]}", "ingest") as path:
        try:
            return dict(zip(indices, read_clips(path, requests), strict=True))
        except ValueError:
            return _decode_singly(path, requests, indices)


def _decode_singly(path: Path, requests: Sequence[ClipRequest], indices: Sequence[int]) -> dict[int, Frames]:
    found: dict[int, Frames] = {}
    for index, request in zip(indices, requests, strict=True):
        try:
            found[index] = read_clips(path, [request])[0]
        except ValueError:
            continue
    return found


def _request(config: AutoencoderStepConfig, row: Mapping[str, Any]) -> ClipRequest:
    crop = (row["crop_x"], row["crop_y"], row["crop_width"], row["crop_height"])
    start, end = Fraction(row["start"]), Fraction(row["end"])
    return ClipRequest(start, end, config.frames, config.fps, config.height, config.width, crop)
