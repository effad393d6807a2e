"""Pictures and videos that a generated video begins or ends with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoetrope.components.generate.sampling import VideoShape
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.references import digest_file
from zoetrope.model.conditions import EXTEND, HEAD, LOOP, TAIL, TEXT_TO_VIDEO, reference_frames
from zoetrope.model.sampling import VisualCondition

if TYPE_CHECKING:
    from zoetrope.model.video_model import Frames, VideoModel


@dataclass(frozen=True)
class GivenFiles:
    """What the user gives.

    Attributes:
        image: first frame.
        last_image: last frame.
        video: its end is the beginning of the new video.
    """

    image: Path | None = None
    last_image: Path | None = None
    video: Path | None = None

    @property
    def kind(self) -> str:
        """The kind of condition.

        Raises:
            ZoetropeError: a video and a picture.
        """
        if self.video is not None:
            if self.image is not None or self.last_image is not None:
                raise ZoetropeError("generate: a video and a picture are given", "give --video or --image, not both")
            return EXTEND
        if self.image is not None:
            return HEAD if self.last_image is None else LOOP
        return TEXT_TO_VIDEO if self.last_image is None else TAIL

    def settings(self) -> dict[str, Any]:
        """Names and digests of the files, for the record."""
        files = {"image": self.image, "last_image": self.last_image, "video": self.video}
        return {
            name: None if path is None else {"name": path.name, "sha256": digest_file(path)}
            for name, path in files.items()
        }


def read_given(files: GivenFiles, model: VideoModel, shape: VideoShape, count: int) -> VisualCondition | None:
    """Encodes what is given, the same for `count` videos; None for text alone.

    Raises:
        ZoetropeError: a file that cannot be read, or a video that is too short to go on from.
    """
    kind = files.kind
    if kind == TEXT_TO_VIDEO:
        return None
    frames: dict[str, Frames] = {}
    if files.video is not None:
        frames["head_short"] = _end_of(files.video, shape)
    if files.image is not None:
        frames["head"] = _picture(files.image, shape)
    if files.last_image is not None:
        frames["tail"] = _picture(files.last_image, shape)
    latents = {name: model.encode(given[None]) for name, given in frames.items()}
    references = {name: latent.expand(count, *latent.shape[1:]) for name, latent in latents.items()}
    return VisualCondition([kind] * count, references)


def _picture(path: Path, shape: VideoShape) -> Frames:
    """uint8 [1, H, W, 3], scaled to cover the size and cropped around the centre."""
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    from zoetrope.model.video_model import fit_picture

    try:
        with Image.open(path) as image:
            picture = np.array(image.convert("RGB"))
    except (OSError, UnidentifiedImageError) as error:
        raise ZoetropeError(f"{path}: not an image that can be read ({error})", "give a PNG or JPEG") from error
    return fit_picture(picture, shape.height, shape.width)[None]


def _end_of(path: Path, shape: VideoShape) -> Frames:
    """The last frames of a video, as many as a model that goes on from videos is given: uint8 [T, H, W, 3]."""
    from zoetrope.model.video import read_end

    count = reference_frames("short", shape.frames)
    if shape.frames <= count:
        raise ZoetropeError(
            f"generate: {shape.frames} frames, of which the given video takes {count}: nothing is left to make",
            f"ask for more than {count} with --frames",
        )
    try:
        return read_end(path, count, shape.fps, height=shape.height, width=shape.width)
    except (ValueError, OSError) as error:
        raise ZoetropeError(
            f"{path}: {error}", f"give a video of at least {count} frames at {shape.fps:g} a second"
        ) from error
