"""Videos from a checkpoint outside of a pipeline: what the command `zoetrope generate` calls."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zoetrope.components.generate.models import choose_bucket, load_video_model, read_checkpoint
from zoetrope.components.generate.prompts import Prompt
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.references import digest_file
from zoetrope.infra.store import Store
from zoetrope.model.sampler import SamplerConfig


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
    checkpoint: str,
    store: Store,
    prompts: Sequence[Prompt],
    outputs: Sequence[Path],
    *,
    sampler: SamplerConfig | None = None,
    image: Path | None = None,
    frames: int = 0,
    bucket: str = "",
    threads: int = 2,
) -> list[GeneratedVideo]:
    """Generates one video for each prompt and writes it with a JSON file of its settings beside it.

    Args:
        checkpoint: reference to a `zoetrope.checkpoint.v1` manifest.
        store: where it lies.
        prompts: text and seed of each video.
        outputs: an `.mp4` file for each prompt; `out.mp4` brings `out.json`.
        sampler: settings; the defaults of the step `generate` when None.
        image: picture that every video begins with (image to video).
        frames: number of frames; 0 takes the bucket's.
        bucket: dataset bucket that gives the size; empty takes the largest.
        threads: CPU threads of PyTorch.

    Returns:
        What was written, in the order of the prompts.

    Raises:
        ZoetropeError: empty prompt, unreadable image, a number of frames or an output that cannot be.
    """
    import torch

    from zoetrope.components.generate.config import GenerateConfig
    from zoetrope.components.generate.sampling import VideoShape, embed_prompts, head_condition, sample_videos

    _check(prompts, outputs)
    sampler = sampler or GenerateConfig().sampler
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory(prefix="zoetrope-generate-") as work:
        model = load_video_model(read_checkpoint(store, checkpoint), store, Path(work))
        chosen = choose_bucket(model.dataset, bucket)
        shape = VideoShape.of_bucket(chosen)
        shape = shape.with_frames(frames, model.autoencoder.config) if frames else shape
        condition = None
        if image is not None:
            head = model.encode_image(image, shape.height, shape.width)
            condition = head_condition(head.expand(len(prompts), *head.shape))
        text, seeds = embed_prompts(model, [p.text for p in prompts]), [p.seed for p in prompts]
        videos = sample_videos(model, model.transformer, sampler, shape, text, seeds, image=condition)
    common = {
        "schema": "zoetrope.generated.v1", "checkpoint": checkpoint, "bucket": chosen["name"], "threads": threads,
        "height": shape.height, "width": shape.width, "frames": shape.frames, "fps": shape.fps,
        "sampler": asdict(sampler), "condition": "t2v" if image is None else "i2v_head",
        "image": None if image is None else {"name": image.name, "sha256": digest_file(image)},
    }  # fmt: skip
    return [
        _write(path, video, shape.fps, {**common, "prompt": prompt.text, "seed": prompt.seed})
        for path, video, prompt in zip(outputs, videos, prompts, strict=True)
    ]


def _check(prompts: Sequence[Prompt], outputs: Sequence[Path]) -> None:
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


def _write(path: Path, video: Any, fps: float, settings: dict[str, Any]) -> GeneratedVideo:
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
