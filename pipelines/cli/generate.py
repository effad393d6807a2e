"""`zoetrope generate`: a video from a registered model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zoetrope.infra.errors import ZoetropeError
from zoetrope.pipelines.cli.common import DEFAULT_STORE, StoreOption, output, state_paths, state_store, tracking_uri


def generate(
    checkpoint: Annotated[str, typer.Option(help="models:/NAME@ALIAS, models:/NAME/VERSION or a reference")],
    prompt: Annotated[str, typer.Option(help="what the video shows")],
    image: Annotated[Path | None, typer.Option(help="picture that the video begins with")] = None,
    seed: Annotated[int, typer.Option(help="same seed, same video")] = 0,
    frames: Annotated[int, typer.Option(help="number of frames; 0 takes what the model was trained on")] = 0,
    out: Annotated[Path, typer.Option("--out", "-o", help="the MP4 file; its settings go beside it as JSON")] = Path(
        "video.mp4"
    ),
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Generate a video with a promoted model.

    Example: zoetrope generate --checkpoint models:/zoetrope-nano@champion --prompt "a red circle moving up"
    """
    from zoetrope.components.generate.prompts import Prompt
    from zoetrope.components.generate.videos import generate_videos

    if not state_paths(store).root.is_dir():
        raise ZoetropeError(f"no state in {store}", "train a model first (`zoetrope run nano`) or give --store DIR")
    reference = checkpoint
    if checkpoint.startswith("models:/"):
        from zoetrope.infra.tracking import ModelRegistry

        reference = str(ModelRegistry(tracking_uri(store)).resolve(checkpoint))
    for written in generate_videos(
        reference, state_store(store), [Prompt(text=prompt, seed=seed)], [out], image=image, frames=frames
    ):
        output.print(str(written.path), highlight=False, soft_wrap=True)
