"""Encodes films as H.264 in MP4 (PyAV, libx264, one thread: the bytes depend on the pictures alone)."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from zoetrope.components.ingest.footage.paint import Image
from zoetrope.model.video import reproducible_x264

# superfast is the fastest preset whose output is not Constrained Baseline, a profile that the raw gates reject.
_OPTIONS = {"preset": "superfast", "crf": "20", "x264-params": "keyint=48:scenecut=0:bframes=0"}
_OPTIONS_REENCODED = {**_OPTIONS, "crf": "27"}
# The least that H.264 can spend: about 0.016 bits a pixel at 96 x 96.
_OPTIONS_LOW_BITS = {
    "preset": "veryfast",
    "crf": "51",
    "x264-params": "keyint=infinite:scenecut=0:bframes=8:b-adapt=0:aq-mode=0:qpmin=51",
}
QUALITIES = {"good": _OPTIONS, "reencoded": _OPTIONS_REENCODED, "low_bits": _OPTIONS_LOW_BITS}


@dataclass(frozen=True)
class Encoded:
    """A written file.

    Attributes:
        time_base: of its video stream, seconds per PTS step.
        pts: presentation time of every frame, in steps of `time_base`.
        bytes: size of the file.
    """

    time_base: Fraction
    pts: tuple[int, ...]
    bytes: int


def write_film(
    path: Path,
    frames: Iterable[Image],
    fps: int,
    size: int,
    *,
    quality: str = "good",
    dropped: Sequence[int] = (),
    index_first: bool = False,
) -> Encoded:
    """Writes one film.

    Args:
        path: the new file.
        frames: uint8 [size, size, 3] RGB, `fps` a second.
        fps: frames a second.
        size: width and height in pixels.
        quality: one of `QUALITIES`.
        dropped: numbers of frames that are left out; the others keep their time (a variable frame rate).
        index_first: puts the index before the pictures, so that a truncated file still opens.
    """
    import av
    from av.video.reformatter import VideoReformatter

    left_out = frozenset(dropped)
    reformatter = VideoReformatter()  # kept for the whole film: setting one up costs more than a frame
    movflags = {"movflags": "+faststart"} if index_first else {}
    ticks: list[int] = []
    with av.open(str(path), "w", format="mp4", options=movflags) as container:
        container.metadata["title"] = path.stem
        options = QUALITIES[quality]
        parameters = ":".join(part for part in (options["x264-params"], reproducible_x264()) if part)
        stream = container.add_stream(
            "libx264", rate=fps, options={**options, "x264-params": parameters, "threads": "1"}
        )
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, fps)
        for number, pixels in enumerate(frames):
            if number in left_out:
                continue
            ticks.append(number)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame = reformatter.reformat(frame, format="yuv420p")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        time_base = Fraction(stream.time_base)
    steps = Fraction(1, fps) / time_base
    return Encoded(time_base, tuple(int(tick * steps) for tick in ticks), path.stat().st_size)


def reencode(source: Path, target: Path) -> Encoded:
    """Decodes a film and encodes it again at a lower quality: the same pictures, other bytes."""
    import av

    with av.open(str(source)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        fps, size = int(stream.average_rate), int(stream.width)
        frames = (frame.to_ndarray(format="rgb24") for frame in container.decode(stream))
        return write_film(target, frames, fps, size, quality="reencoded")


def truncate(path: Path, share: float) -> None:
    """Cuts the end off a file, as an interrupted download does."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def frames_to_drop(count: int, keep: Iterable[int], seed: int) -> list[int]:
    """A quarter of the frames, none of `keep`, for a variable frame rate."""
    free = sorted(set(range(count)) - set(keep))
    return sorted(random.Random(seed).sample(free, count // 4))  # noqa: S311 - pictures, not secrets
