"""A checkpoint opened by its name: a reference into a store, or a folder of released weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoetrope.components.generate.config import GenerateConfig
from zoetrope.components.generate.models import choose_bucket, load_video_model, read_checkpoint
from zoetrope.components.generate.sampling import VideoShape
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.store import Store, get_json
from zoetrope.model.released import MOTION_SCORE, ReleasedFolder, prompt_with_suffix
from zoetrope.model.sampling import SamplerConfig

if TYPE_CHECKING:
    from zoetrope.model.video_model import VideoModel


@dataclass(frozen=True)
class OpenedModel:
    """A loaded checkpoint and how it is used unless somebody says otherwise.

    Attributes:
        name: the reference, or the folder.
        model: everything loaded.
        device: where it runs.
        shape: size of its videos by default.
        sampler: settings by default.
        motion_score: what a prompt says of motion by default; None where prompts are taken as they are.
    """

    name: str
    model: VideoModel
    device: str
    shape: VideoShape
    sampler: SamplerConfig
    motion_score: int | None

    def completed(self, prompt: str, motion_score: int | None) -> str:
        """The prompt as the model was trained to read it: released weights know rate and motion at its end.

        Raises:
            ZoetropeError: a motion score for a model that knows none.
        """
        if self.motion_score is None:
            if motion_score is not None:
                raise ZoetropeError(
                    "generate: --motion-score belongs to released weights",
                    "this checkpoint reads prompts as its captions are; write it into the prompt",
                )
            return prompt
        score = self.motion_score if motion_score is None else motion_score
        return prompt_with_suffix(prompt, self.shape.fps, score)


def choose_device(name: str) -> str:
    """`cpu` or `cuda`; `auto` takes the accelerator where there is one.

    Raises:
        ZoetropeError: an unknown name, or no accelerator.
    """
    import torch

    if name not in ("auto", "cpu", "cuda"):
        raise ZoetropeError(f"--device {name}: unknown", "take auto, cpu or cuda")
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise ZoetropeError("--device cuda: PyTorch finds no CUDA device", "take --device cpu")
    return "cuda" if there and name != "cpu" else "cpu"


def open_folder(folder: Path, device: str) -> OpenedModel:
    """Opens released weights in the published layout, see `model/released.py`.

    Raises:
        ZoetropeError: a file is missing or does not fit.
    """
    try:
        found = ReleasedFolder.find(folder)
        config = found.config
        shape = VideoShape(0, 0, config.frames, config.fps)
        model = found.load(device)
    except ValueError as error:
        raise ZoetropeError(
            f"generate: {error}",
            "give a folder in the layout of the released weights; config.json in it says what differs",
        ) from error
    shape = shape.changed(0, config.resolution, config.aspect, model.grid)
    return OpenedModel(str(folder), model, device, shape, SamplerConfig(), MOTION_SCORE)


def open_reference(reference: str, store: Store, work: Path, device: str, bucket: str = "") -> OpenedModel:
    """Opens a `zoetrope.checkpoint.v1` manifest; the bucket, the largest if empty, gives the size.

    Raises:
        ZoetropeError: not a checkpoint, no such bucket, or weights that do not fit.
    """
    if "@sha256:" not in reference:
        raise ZoetropeError(
            f"generate: {reference} is neither a folder that is there nor a checkpoint",
            "give models:/NAME@ALIAS, a reference URI@sha256:..., or a folder of released weights",
        )
    manifest = read_checkpoint(store, reference)
    shape = VideoShape.of_bucket(choose_bucket(get_json(store, manifest["dataset"]), bucket))
    model = load_video_model(manifest, store, work, device)
    return OpenedModel(reference, model, device, shape, GenerateConfig().sampler, None)
