"""Samples that are drawn together, in a worker process: prompts in, videos in the store out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoetrope.components.generate.models import choose_bucket, load_video_model
from zoetrope.components.generate.prompts import HELD_OUT, Prompt
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.store import get_json, open_store, put_file_content
from zoetrope.model.conditions import HEAD, TEXT_TO_VIDEO
from zoetrope.model.sampling import SamplerConfig

if TYPE_CHECKING:
    import numpy.typing as npt
    from numpy import uint8

    from zoetrope.model.mmdit.model import MMDiT
    from zoetrope.model.sampling import VisualCondition
    from zoetrope.model.video_model import VideoModel

TRAINED, UNTRAINED = "trained", "untrained"


@dataclass(frozen=True)
class SamplingSetup:
    """What all batches of a step share.

    Attributes:
        checkpoint: reference to a `zoetrope.checkpoint.v1` manifest.
        store: root URI of the store.
        work: scratch folder.
        bucket: dataset bucket that gives the size.
        sampler: settings.
        untrained_seed: seed of the untrained model's weights.
        threads: CPU threads of PyTorch.
    """

    checkpoint: str
    store: str
    work: str
    bucket: str
    sampler: SamplerConfig
    untrained_seed: int
    threads: int


@dataclass(frozen=True)
class SampleUnit:
    """One batch.

    Attributes:
        setup: what all batches share.
        number: position of the batch in the step.
        prompts: what to draw.
        model: `trained` or `untrained`.
        condition: `t2v` or `i2v_head`.
        clips: for `i2v_head`, positions of the held-out clips whose first frame is given.
    """

    setup: SamplingSetup
    number: int
    prompts: tuple[Prompt, ...]
    model: str = TRAINED
    condition: str = TEXT_TO_VIDEO
    clips: tuple[int, ...] = ()


@dataclass(frozen=True)
class Sampled:
    """One video.

    Attributes:
        video: reference to the MP4.
        frames: its first, middle and last frame, uint8 [3, H, W, 3].
    """

    video: str
    frames: npt.NDArray[uint8]


def sample_batch(batch: SampleUnit) -> list[Sampled]:
    """Draws the samples of a batch and puts them into the store.

    The result depends on the batch alone: any number of workers gives the same videos.
    """
    import torch

    from zoetrope.components.generate.sampling import VideoShape, sample_videos
    from zoetrope.model.video import write_video

    setup = batch.setup
    torch.set_num_threads(setup.threads)
    model = _model(setup.checkpoint, setup.store, setup.work)
    shape = VideoShape.of_bucket(choose_bucket(_dataset(setup), setup.bucket))
    videos = sample_videos(
        model,
        model.transformer if batch.model == TRAINED else _untrained(setup),
        setup.sampler,
        shape,
        model.embed([prompt.text for prompt in batch.prompts]),
        [prompt.seed for prompt in batch.prompts],
        visual=_heads(setup, batch.clips) if batch.condition == HEAD else None,
    )
    store, sampled = open_store(setup.store), []
    for index, video in enumerate(videos):
        path = write_video(Path(setup.work) / f"{batch.number:04d}-{index:04d}.mp4", video, shape.fps)
        reference = put_file_content(store, path)
        path.unlink()
        sampled.append(Sampled(str(reference), video[[0, len(video) // 2, len(video) - 1]]))
    return sampled


@lru_cache(maxsize=1)
def _model(checkpoint: str, store: str, work: str) -> VideoModel:
    """The loaded checkpoint, once in each worker."""
    opened = open_store(store)
    return load_video_model(get_json(opened, checkpoint), opened, Path(work))


@lru_cache(maxsize=1)
def _untrained(setup: SamplingSetup) -> MMDiT:
    return _model(setup.checkpoint, setup.store, setup.work).untrained(setup.untrained_seed)


@lru_cache(maxsize=1)
def _dataset(setup: SamplingSetup) -> dict[str, Any]:
    """The manifest of the dataset that the checkpoint was trained on."""
    store = open_store(setup.store)
    dataset: dict[str, Any] = get_json(store, get_json(store, setup.checkpoint)["dataset"])
    return dataset


def _heads(setup: SamplingSetup, clips: Sequence[int]) -> VisualCondition:
    """First frames of held-out clips."""
    from zoetrope.components.generate.sampling import head_condition
    from zoetrope.model.data import DamagedDataError, LatentDataset

    store = open_store(setup.store)
    try:
        dataset = LatentDataset.open(_dataset(setup), store.read, setup.bucket, HELD_OUT, local=store.local_path)
        return head_condition(dataset.batch(clips).references["head"].float())
    except DamagedDataError as error:
        raise ZoetropeError(f"generate: {error}", error.hint) from error
