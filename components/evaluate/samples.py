"""Generated videos as the metrics see them: decoded pixels and what they ought to show."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.store import Store, get_bytes

if TYPE_CHECKING:
    import numpy.typing as npt

TRAINED = "trained"
UNTRAINED = "untrained"
TEXT_TO_VIDEO = "t2v"


@dataclass(frozen=True)
class Sample:
    """One generated video.

    Attributes:
        frames: uint8 [T, H, W, 3], RGB.
        prompt: the prompt it was generated for.
        attributes: what the prompt asks for, e.g. {color: red, direction: left}; empty where nobody said.
        condition: `t2v`, `i2v_head`, ...
        model: `trained` or `untrained`.
        seed: seed of its noise.
    """

    frames: npt.NDArray[np.uint8]
    prompt: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    condition: str = TEXT_TO_VIDEO
    model: str = TRAINED
    seed: int = 0


def decode_video(data: bytes) -> npt.NDArray[np.uint8]:
    """Decodes every frame of a video file.

    Args:
        data: the bytes of an MP4 file.

    Returns:
        uint8 [T, H, W, 3], RGB.

    Raises:
        ZoetropeError: the bytes are not a video or hold no frame.
    """
    import av

    try:
        with av.open(io.BytesIO(data)) as container:
            container.streams.video[0].thread_count = 1
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    except (av.error.FFmpegError, IndexError) as error:
        raise ZoetropeError(f"a generated video cannot be decoded: {error}", "run the step `generate` again") from error
    if not frames:
        raise ZoetropeError("a generated video has no frames", "run the step `generate` again")
    return np.stack(frames)


def load_samples(store: Store, videos: Sequence[Mapping[str, Any]]) -> list[Sample]:
    """Reads and decodes the `videos` list of a `zoetrope.videos.v1` manifest, in its order."""
    return [
        Sample(
            frames=decode_video(get_bytes(store, entry["video"])),
            prompt=entry["prompt"],
            attributes=dict(entry["attributes"]),
            condition=entry["condition"],
            model=entry["model"],
            seed=entry["seed"],
        )
        for entry in videos
    ]
