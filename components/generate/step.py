"""The step `generate`: a checkpoint in, videos for held-out prompts out."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from zoetrope.components.generate.config import GenerateConfig
from zoetrope.components.generate.contact_sheet import contact_sheet
from zoetrope.components.generate.models import VideoModel, choose_bucket, load_video_model
from zoetrope.components.generate.prompts import HELD_OUT, Prompt, caption_attributes, choose_prompts
from zoetrope.infra.references import Reference
from zoetrope.infra.steps.context import StepContext, StepResult
from zoetrope.infra.store import get_json, put_content, put_file_content, put_json

if TYPE_CHECKING:
    import numpy.typing as npt
    from numpy import uint8

    from zoetrope.components.generate.sampling import VideoShape

TRAINED, UNTRAINED = "trained", "untrained"
TEXT_TO_VIDEO, HEAD = "t2v", "i2v_head"
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
    import torch

    from zoetrope.components.generate.sampling import VideoShape

    torch.set_num_threads(config.threads)
    context.progress("loading the checkpoint", 0.0)
    model = load_video_model(get_json(context.store, checkpoint), context.store, context.work)
    bucket = choose_bucket(model.dataset, config.bucket)
    shape = VideoShape.of_bucket(bucket)
    prompts = choose_prompts(config, model.dataset, context.store)
    entries: list[dict[str, Any]] = []
    groups: dict[str, npt.NDArray[uint8]] = {}
    for kind, chosen, frames in _groups(config, model, shape, bucket["name"], prompts, context):
        condition, _, name = kind.partition("/")
        groups[kind] = frames
        entries += _stored(frames, shape.fps, chosen, name, condition, len(entries), context)
    rows = _rows(prompts, [groups[kind] for kind in groups if kind.startswith(TEXT_TO_VIDEO)])
    sheet = put_content(context.store, contact_sheet(rows[: config.contact_sheet_rows]), ".png")
    settings = {
        "sampler": asdict(config.sampler), "bucket": bucket["name"], "seed": config.seed, "threads": config.threads,
        "height": shape.height, "width": shape.width, "frames": shape.frames, "fps": shape.fps,
    }  # fmt: skip
    product = {
        "schema": "zoetrope.videos.v1",
        "videos": entries,
        "contact_sheet": str(sheet),
        "checkpoint": checkpoint,
        "settings": settings,
    }
    return _result(context, product, contact_sheet(rows[:PAGE_ROWS], "JPEG"))


def _groups(
    config: GenerateConfig,
    model: VideoModel,
    shape: VideoShape,
    bucket: str,
    prompts: Sequence[Prompt],
    context: StepContext,
) -> Iterator[tuple[str, Sequence[Prompt], npt.NDArray[uint8]]]:
    """Yields (condition/model, prompts, uint8 [B, T, H, W, 3]) for each group of samples."""
    from zoetrope.components.generate.sampling import embed_prompts, head_condition, sample_videos

    heads = _held_out_heads(config, model, bucket, context)
    total = len(prompts) * (2 if config.control == UNTRAINED else 1) + (len(heads[0]) if heads else 0)
    text, seeds = embed_prompts(model, [p.text for p in prompts]), [p.seed for p in prompts]
    progress = _progress(context, 0, total)
    trained = sample_videos(model, model.transformer, config.sampler, shape, text, seeds, on_batch=progress)
    yield f"{TEXT_TO_VIDEO}/{TRAINED}", prompts, trained
    done = len(prompts)
    if config.control == UNTRAINED:
        progress = _progress(context, done, total)
        fresh = model.untrained(config.seed)
        control = sample_videos(model, fresh, config.sampler, shape, text, seeds, on_batch=progress)
        yield f"{TEXT_TO_VIDEO}/{UNTRAINED}", prompts, control
        done += len(prompts)
    if heads:
        chosen, latents = heads
        text, seeds = embed_prompts(model, [p.text for p in chosen]), [p.seed for p in chosen]
        videos = sample_videos(
            model, model.transformer, config.sampler, shape, text, seeds,
            image=head_condition(latents), on_batch=_progress(context, done, total),
        )  # fmt: skip
        yield f"{HEAD}/{TRAINED}", chosen, videos


def _progress(context: StepContext, before: int, total: int) -> Callable[[int], None]:
    return lambda done: context.progress(f"{before + done} of {total} videos", (before + done) / total)


def _held_out_heads(
    config: GenerateConfig, model: VideoModel, bucket: str, context: StepContext
) -> tuple[list[Prompt], Any] | None:
    """Captions and first frames of held-out clips; None where the model takes no images or no clip was held out."""
    from zoetrope.model.data.loader import LatentDataset

    if not config.image_videos or not model.transformer.config.cond_embed:
        return None
    try:
        clips = LatentDataset.open(model.dataset, context.store.read, bucket, HELD_OUT)
    except ValueError:  # nothing held out in this bucket: a small folder of one's own
        return None
    batch = clips.batch(range(min(config.image_videos, len(clips))))
    attributes = caption_attributes(model.dataset, context.store)
    prompts = [
        Prompt(caption, config.seed + index, attributes.get(clip_id, {}))
        for index, (clip_id, caption) in enumerate(zip(batch.clip_ids, batch.captions, strict=True))
    ]
    return prompts, batch.head.float()


def _stored(
    frames: npt.NDArray[uint8],
    fps: float,
    prompts: Sequence[Prompt],
    model: str,
    condition: str,
    offset: int,
    context: StepContext,
) -> list[dict[str, Any]]:
    """Writes the videos of a group into the store and returns their entries of the manifest."""
    from zoetrope.model.video import write_video

    entries = []
    for index, (prompt, video) in enumerate(zip(prompts, frames, strict=True)):
        path = write_video(context.work / f"{offset + index:05d}.mp4", video, fps)
        entries.append(
            {
                "video": str(put_file_content(context.store, path)),
                "prompt": prompt.text,
                "seed": prompt.seed,
                "attributes": dict(prompt.attributes),
                "condition": condition,
                "model": model,
            }
        )
        path.unlink()
    return entries


def _rows(
    prompts: Sequence[Prompt], groups: Sequence[npt.NDArray[uint8]]
) -> list[tuple[str, list[npt.NDArray[uint8]]]]:
    return [(prompt.text, [group[index] for group in groups]) for index, prompt in enumerate(prompts)]


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
