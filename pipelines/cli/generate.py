"""`zoetrope generate`: a video from a registered model, a checkpoint or released weights."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zoetrope.infra.errors import ZoetropeError
from zoetrope.pipelines.cli.common import (
    DEFAULT_STORE,
    StoreOption,
    errors,
    output,
    state_paths,
    state_store,
    tracking_uri,
)
from zoetrope.pipelines.cli.steps_bar import StepsBar

if TYPE_CHECKING:
    from zoetrope.components.generate.command.opening import OpenedModel
    from zoetrope.model.sampling import SamplerConfig


def generate(
    checkpoint: Annotated[
        str, typer.Option(help="models:/NAME@ALIAS, models:/NAME/VERSION, a reference, or a folder of released weights")
    ],
    prompt: Annotated[str, typer.Option(help="what the video shows")],
    negative_prompt: Annotated[str, typer.Option(help="what it shall not be like")] = "",
    image: Annotated[Path | None, typer.Option(help="picture that the video begins with")] = None,
    last_image: Annotated[Path | None, typer.Option(help="picture that it ends with")] = None,
    video: Annotated[Path | None, typer.Option(help="video that it goes on from; its end is the beginning")] = None,
    image_checkpoint: Annotated[
        str, typer.Option(help="checkpoint that draws the first frame from the prompt (text to image to video)")
    ] = "",
    frames: Annotated[int, typer.Option(min=0, help="number of frames; 0 takes the model's own")] = 0,
    resolution: Annotated[str, typer.Option(help="nominal size: 256px, 768px, 1024px, ...; default the model's")] = "",
    aspect: Annotated[str, typer.Option(help="width to height, e.g. 16:9, 9:16, 1:1, 2.39:1")] = "",
    steps: Annotated[int | None, typer.Option(min=1, help="steps of the sampler")] = None,
    text_guidance: Annotated[float | None, typer.Option(help="weight of the text; 1 is none")] = None,
    image_guidance: Annotated[float | None, typer.Option(help="weight of given frames; 1 is none")] = None,
    motion_score: Annotated[
        int | None, typer.Option(min=1, max=15, help="released weights: 1 is still, 15 the most motion; default 4")
    ] = None,
    seed: Annotated[int, typer.Option(help="same seed, same video")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    out: Annotated[Path, typer.Option("--out", "-o", help="the MP4 file; its settings go beside it as JSON")] = Path(
        "video.mp4"
    ),
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Generate a video.

    Example: zoetrope generate --checkpoint models:/zoetrope-nano@champion --prompt "a red circle moving up"
    """
    from zoetrope.components.generate.command.given import GivenFiles
    from zoetrope.components.generate.command.opening import choose_device
    from zoetrope.components.generate.command.videos import VideoRequest, check_outputs, generate_videos
    from zoetrope.components.generate.prompts import Prompt

    prompts = [Prompt(text=prompt, seed=seed)]
    check_outputs(prompts, [out])
    given = GivenFiles(image, last_image, video)
    chosen = choose_device(device)
    with tempfile.TemporaryDirectory(prefix="zoetrope-generate-") as work:
        opened = _open(checkpoint, store, Path(work) / "video", chosen)
        same = image_checkpoint == checkpoint
        drawing = opened if same else None
        if image_checkpoint and not same:
            drawing = _open(image_checkpoint, store, Path(work) / "image", chosen)
        request = VideoRequest(
            frames=frames,
            resolution=resolution,
            aspect=aspect,
            negative_prompt=negative_prompt,
            motion_score=motion_score,
            given=given,
            sampler=_sampler(opened.sampler, steps, text_guidance, image_guidance),
        )
        with StepsBar(errors) as bar:
            written = generate_videos(opened, prompts, [out], request, image_model=drawing, on_step=bar.show)
    for each in written:
        output.print(str(each.path), highlight=False, soft_wrap=True)


def _open(checkpoint: str, store: Path, work: Path, device: str) -> OpenedModel:
    """A folder where there is one of that name, else what the store or the registry knows."""
    from zoetrope.components.generate.command.opening import open_folder, open_reference

    if Path(checkpoint).is_dir():
        return open_folder(Path(checkpoint), device)
    reference = checkpoint
    if checkpoint.startswith("models:/"):
        from zoetrope.infra.tracking import ModelRegistry

        if not state_paths(store).root.is_dir():
            raise ZoetropeError(f"no state in {store}", "train a model first (`zoetrope run nano`) or give --store DIR")
        reference = str(ModelRegistry(tracking_uri(store)).resolve(checkpoint))
    return open_reference(reference, state_store(store), work, device)


def _sampler(
    default: SamplerConfig, steps: int | None, text_guidance: float | None, image_guidance: float | None
) -> SamplerConfig:
    given = {"steps": steps, "text_guidance": text_guidance, "image_guidance": image_guidance}
    return replace(default, **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
