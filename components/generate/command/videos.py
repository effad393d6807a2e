"""Videos from a checkpoint outside of a pipeline: what the command `zoetrope generate` calls."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoetrope.components.generate.command.given import GivenFiles, read_given
from zoetrope.components.generate.command.opening import OpenedModel
from zoetrope.components.generate.prompts import Prompt
from zoetrope.components.generate.sampling import VideoShape, head_condition, sample_videos
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.references import digest_file
from zoetrope.model.conditions import HEAD, TEXT_TO_VIDEO
from zoetrope.model.sampling import SamplerConfig, VisualCondition

if TYPE_CHECKING:
    from zoetrope.model.video_model import Frames

OnStep = Callable[[str, int, int], None]
"""Told (what is being drawn, steps done, steps in all)."""


@dataclass(frozen=True)
class VideoRequest:
    """What to draw.

    Attributes:
        frames: number of frames; 0 takes the model's default.
        resolution: nominal, e.g. `256px`; empty takes the default.
        aspect: width to height, e.g. `16:9`; empty takes the default.
        negative_prompt: what guidance leads away from; empty is the empty text.
        motion_score: for released weights, 1 (still) to 15; None takes their default.
        given: pictures or a video that it begins or ends with.
        sampler: settings; None takes the model's.
        threads: CPU threads of PyTorch.
    """

    frames: int = 0
    resolution: str = ""
    aspect: str = ""
    negative_prompt: str = ""
    motion_score: int | None = None
    given: GivenFiles = field(default_factory=GivenFiles)
    sampler: SamplerConfig | None = None
    threads: int = 2


@dataclass(frozen=True)
class GeneratedVideo:
    """A written video.

    Attributes:
        path: the MP4.
        settings_path: JSON beside it with every setting that made it.
        settings: the same settings.
    """

    path: Path
    settings_path: Path
    settings: dict[str, Any]


def generate_videos(
    opened: OpenedModel,
    prompts: Sequence[Prompt],
    outputs: Sequence[Path],
    request: VideoRequest | None = None,
    *,
    image_model: OpenedModel | None = None,
    on_step: OnStep | None = None,
) -> list[GeneratedVideo]:
    """Generates one video for each prompt and writes it with a JSON file of its settings beside it.

    Args:
        opened: the checkpoint.
        prompts: text and seed of each video.
        outputs: an `.mp4` file for each prompt; `out.mp4` brings `out.json`.
        request: what to draw; the model's defaults when None.
        image_model: draws the first frame from the prompt, the video goes on from there (text to image to video);
            may be the same as `opened`.
        on_step: see `OnStep`.

    Returns:
        What was written, in the order of the prompts.

    Raises:
        ZoetropeError: empty prompt, unreadable file, a size or an output that cannot be.
    """
    import torch

    request = request or VideoRequest()
    check_outputs(prompts, outputs)
    if image_model is not None and request.given.kind != TEXT_TO_VIDEO:
        raise ZoetropeError(
            "generate: the first frame is given and shall be drawn by an image checkpoint",
            "leave out --image-checkpoint, or --image, --last-image and --video",
        )
    model, sampler = opened.model, request.sampler or opened.sampler
    torch.set_num_threads(request.threads)
    shape = opened.shape.changed(request.frames, request.resolution, request.aspect, model.grid)
    latent_shape = shape.latent(model)
    texts = [opened.completed(prompt.text, request.motion_score) for prompt in prompts]
    seeds = [prompt.seed for prompt in prompts]
    kind = request.given.kind if image_model is None else HEAD
    if image_model is None:
        visual = read_given(request.given, model, shape, len(prompts))
    else:
        visual = _drawn_first_frames(image_model, opened, prompts, request, sampler, shape, on_step)
    videos = sample_videos(
        model,
        model.transformer,
        sampler,
        shape,
        model.embed(texts, [request.negative_prompt] * len(texts)),
        seeds,
        visual=visual,
        on_step=_labelled(on_step, "video"),
    )
    common = {
        "schema": "zoetrope.generated.v1",
        "checkpoint": opened.name,
        "image_checkpoint": None if image_model is None else image_model.name,
        "device": opened.device,
        "dtype": str(model.transformer.img_in.weight.dtype).removeprefix("torch."),
        "threads": request.threads,
        **asdict(shape),
        "negative_prompt": request.negative_prompt,
        "text_mode": model.text.mode,
        "condition": kind,
        **request.given.settings(),
        "sampler": asdict(sampler),
        "flow": asdict(model.flow),
        "time_shift": sampler.time_shift(model.flow, latent_shape, model.transformer.config.patch_size),
    }
    return [
        _write(path, video, shape.fps, {**common, "prompt": prompt.text, "prompt_as_read": text, "seed": prompt.seed})
        for path, video, prompt, text in zip(outputs, videos, prompts, texts, strict=True)
    ]


def _drawn_first_frames(
    image_model: OpenedModel,
    opened: OpenedModel,
    prompts: Sequence[Prompt],
    request: VideoRequest,
    sampler: SamplerConfig,
    shape: VideoShape,
    on_step: OnStep | None,
) -> VisualCondition:
    """First frames by the image model, encoded by the video model."""
    import torch

    from zoetrope.model.sampling.image_first import first_frames

    model = image_model.model
    negatives = [request.negative_prompt] * len(prompts)
    score = request.motion_score if image_model.motion_score is not None else None
    text = model.embed([image_model.completed(prompt.text, score) for prompt in prompts], negatives)
    seeds = [prompt.seed for prompt in prompts]
    try:
        pictures = first_frames(
            model, sampler, text, shape.height, shape.width, seeds, on_step=_labelled(on_step, "first frame")
        )
    except ValueError as error:
        raise ZoetropeError(f"generate: {error}", "does the image checkpoint draw pictures of this size?") from error
    return head_condition(torch.cat([opened.model.encode(picture[None]) for picture in pictures]))


def _labelled(on_step: OnStep | None, label: str) -> Callable[[int, int], None] | None:
    return None if on_step is None else lambda done, total: on_step(label, done, total)


def check_outputs(prompts: Sequence[Prompt], outputs: Sequence[Path]) -> None:
    """Looks at prompts and files before anything is loaded.

    Raises:
        ZoetropeError: an empty prompt, or an output that cannot be written as MP4.
    """
    if len(prompts) != len(outputs) or not prompts:
        raise ZoetropeError(
            f"generate: {len(prompts)} prompts and {len(outputs)} output files", "give one output file for each prompt"
        )
    for prompt, path in zip(prompts, outputs, strict=True):
        if not prompt.text.strip():
            raise ZoetropeError("generate: the prompt is empty", "say what the video shall show, --prompt TEXT")
        if path.suffix.lower() != ".mp4":
            raise ZoetropeError(f"{path}: videos are written as MP4", f"take {path.with_suffix('.mp4')}")
        if path.is_dir():
            raise ZoetropeError(f"{path} is a folder", "give the name of a file")


def _write(path: Path, video: Frames, fps: float, settings: dict[str, Any]) -> GeneratedVideo:
    """Both files appear whole or not at all: written beside their place and renamed."""
    from zoetrope.model.video import write_video

    path.parent.mkdir(parents=True, exist_ok=True)
    settings_path = path.with_suffix(".json")
    part, settings_part = (place.with_name(f".{place.name}.part") for place in (path, settings_path))
    try:
        write_video(part, video, fps)
        settings = {**settings, "sha256": digest_file(part)}
        settings_part.write_text(json.dumps(settings, indent=2, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")
        part.replace(path)
        settings_part.replace(settings_path)
    finally:
        part.unlink(missing_ok=True)
        settings_part.unlink(missing_ok=True)
    return GeneratedVideo(path, settings_path, settings)
