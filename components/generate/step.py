"""The step `generate`: a checkpoint in, videos for held-out prompts out."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from zoetrope.components.generate.batches import (
    TRAINED,
    UNTRAINED,
    Sampled,
    SampleUnit,
    SamplingSetup,
    sample_batch,
)
from zoetrope.components.generate.config import GenerateConfig
from zoetrope.components.generate.contact_sheet import contact_sheet
from zoetrope.components.generate.models import choose_bucket, read_checkpoint
from zoetrope.components.generate.prompts import Prompt, choose_prompts, held_out_clips
from zoetrope.infra.context import StepContext, StepResult
from zoetrope.infra.references import Reference
from zoetrope.infra.store import get_json, put_content, put_json
from zoetrope.infra.workers import map_in_processes
from zoetrope.model.conditions import HEAD, TEXT_TO_VIDEO

if TYPE_CHECKING:
    import numpy.typing as npt
    from numpy import uint8

LOGGED_SAMPLES = 4
PAGE_ROWS = 6


def generate(config: GenerateConfig, checkpoint: str, context: StepContext) -> StepResult:
    """Generates videos for held-out prompts and, as a control group, with an untrained model.

    Args:
        config: the step's configuration.
        checkpoint: reference to a `zoetrope.checkpoint.v1` manifest.
        context: store, scratch folder, metrics and events.

    Returns:
        Product `zoetrope.videos.v1`.

    Raises:
        ZoetropeError: no prompt to generate for, an unknown bucket, or a checkpoint that does not load.
    """
    manifest = read_checkpoint(context.store, checkpoint)
    dataset = get_json(context.store, manifest["dataset"])
    bucket = choose_bucket(dataset, config.bucket)
    setup = SamplingSetup(
        checkpoint=checkpoint,
        store=context.store.root,
        work=str(context.work),
        bucket=bucket["name"],
        sampler=config.sampler,
        untrained_seed=config.seed,
        threads=config.threads,
    )
    prompts = choose_prompts(config, dataset, context.store)
    batches = list(_batches(config, setup, prompts, _image_prompts(config, manifest, dataset, bucket["name"], context)))
    entries, pictures = _run(batches, config.workers, context)
    rows = _rows(prompts, entries, pictures)
    sheet = put_content(context.store, contact_sheet(rows[: config.contact_sheet_rows]), ".png")
    product = {
        "schema": "zoetrope.videos.v1",
        "videos": entries,
        "contact_sheet": str(sheet),
        "checkpoint": checkpoint,
        "settings": {
            "sampler": asdict(config.sampler),
            "bucket": bucket["name"],
            "seed": config.seed,
            "threads": config.threads,
            **{key: bucket[key] for key in ("height", "width", "frames", "fps")},
        },
    }
    return _result(context, product, contact_sheet(rows[:PAGE_ROWS], "JPEG"))


def _image_prompts(
    config: GenerateConfig, checkpoint: Mapping[str, Any], dataset: Mapping[str, Any], bucket: str, context: StepContext
) -> list[Prompt]:
    """Captions of held-out clips; none where the model takes no images."""
    if not config.image_videos or not checkpoint["config"]["mmdit"].get("cond_embed", True):
        return []
    clips = held_out_clips(dataset, bucket, context.store)[: config.image_videos]
    return [replace(prompt, seed=config.seed + index) for index, prompt in enumerate(clips)]


def _batches(
    config: GenerateConfig, setup: SamplingSetup, prompts: Sequence[Prompt], image_prompts: Sequence[Prompt]
) -> Iterator[SampleUnit]:
    """Everything to draw, in the order of the manifest; image_prompts are the first held-out clips in order."""
    groups: list[tuple[Sequence[Prompt], str, str]] = [(prompts, TRAINED, TEXT_TO_VIDEO)]
    if config.control == UNTRAINED:
        groups.append((prompts, UNTRAINED, TEXT_TO_VIDEO))
    groups.append((image_prompts, TRAINED, HEAD))
    number, size = 0, config.sampler.batch_size
    for chosen, model, condition in groups:
        for start in range(0, len(chosen), size):
            part = tuple(chosen[start : start + size])
            clips = tuple(range(start, start + len(part))) if condition == HEAD else ()
            yield SampleUnit(setup, number, part, model, condition, clips)
            number += 1


def _run(
    batches: Sequence[SampleUnit], workers: int, context: StepContext
) -> tuple[list[dict[str, Any]], list[npt.NDArray[uint8]]]:
    """Entries of the manifest, and three frames of each video."""
    entries: list[dict[str, Any]] = []
    pictures: list[npt.NDArray[uint8]] = []
    total = sum(len(batch.prompts) for batch in batches)
    context.progress("loading the checkpoint", 0.0)
    results: Iterator[list[Sampled]] = map_in_processes(sample_batch, batches, workers)
    for batch, sampled in zip(batches, results, strict=True):
        for prompt, sample in zip(batch.prompts, sampled, strict=True):
            pictures.append(sample.frames)
            entries.append(
                {
                    "video": sample.video,
                    "prompt": prompt.text,
                    "seed": prompt.seed,
                    "attributes": dict(prompt.attributes),
                    "condition": batch.condition,
                    "model": batch.model,
                }
            )
        context.progress(f"{len(entries)} of {total} videos", len(entries) / total)
    return entries, pictures


def _rows(
    prompts: Sequence[Prompt], entries: Sequence[Mapping[str, Any]], pictures: Sequence[npt.NDArray[uint8]]
) -> list[tuple[str, list[npt.NDArray[uint8]]]]:
    """For each prompt the trained model's sample and, beside it, the untrained model's."""
    groups = len([e for e in entries if e["condition"] == TEXT_TO_VIDEO]) // len(prompts)
    return [
        (prompt.text, [pictures[group * len(prompts) + index] for group in range(groups)])
        for index, prompt in enumerate(prompts)
    ]


def _result(context: StepContext, product: dict[str, Any], picture: bytes) -> StepResult:
    videos = product["videos"]
    counts = {
        "videos": sum(v["model"] == TRAINED and v["condition"] == TEXT_TO_VIDEO for v in videos),
        "control_videos": sum(v["model"] == UNTRAINED for v in videos),
        "image_videos": sum(v["condition"] == HEAD for v in videos),
    }
    artifacts = {f"sample_{i + 1}": Reference.parse(v["video"]) for i, v in enumerate(videos[:LOGGED_SAMPLES])}
    artifacts["contact_sheet"] = Reference.parse(product["contact_sheet"])
    caption = f"First, middle and last frame; on the right the untrained model. {counts['videos']} videos in all."
    data = base64.b64encode(picture).decode()
    settings = product["settings"]
    return StepResult(
        product=put_json(context.store, product),
        key_figure=f"{counts['videos']} videos, {counts['control_videos']} of an untrained model",
        metrics={name: float(count) for name, count in counts.items()},
        parameters={**settings["sampler"], "bucket": settings["bucket"], "seed": settings["seed"]},
        artifacts=artifacts,
        page=f'<p>{caption}</p><img src="data:image/jpeg;base64,{data}" alt="contact sheet of generated videos">',
    )
