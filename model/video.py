"""Reading clips from video files and writing generated videos (PyAV).

Shapes: T frames, H height, W width; pixels are uint8 RGB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL import Image

Frames = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ClipRequest:
    """What to read of a video.

    Attributes:
        start: presentation time of the first frame in seconds, exact.
        end: presentation time at which the clip is over (exclusive), exact.
        frames: number of frames to return.
        fps: frames per second of the returned clip.
        height: pixels.
        width: pixels.
        crop: (x, y, width, height) of the usable picture in source pixels, None for all of it.
    """

    start: Fraction
    end: Fraction
    frames: int
    fps: float
    height: int
    width: int
    crop: tuple[int, int, int, int] | None = None

    def times(self) -> list[Fraction]:
        """Presentation times in seconds that are wanted; raises ValueError for a clip that is too short."""
        if self.frames < 1 or self.fps <= 0:
            raise ValueError(f"a clip needs at least one frame and a positive rate, not {self.frames} at {self.fps}")
        step = 1 / Fraction(self.fps).limit_denominator(1001)
        times = [self.start + index * step for index in range(self.frames)]
        if times[-1] >= self.end:
            have = float(self.end - self.start)
            raise ValueError(f"{self.frames} frames at {self.fps} fps do not fit into a clip of {have:.3f} s")
        return times


def read_clip(
    source: BinaryIO | Path | str,
    start: Fraction,
    end: Fraction,
    frames: int,
    fps: float,
    *,
    height: int,
    width: int,
    crop: tuple[int, int, int, int] | None = None,
) -> Frames:
    """Decodes one clip; see `ClipRequest` for the arguments.

    Returns:
        uint8 [T, H, W, 3].

    Raises:
        ValueError: the clip is too short, or the video holds no frame near a wanted time.
    """
    return read_clips(source, [ClipRequest(start, end, frames, fps, height, width, crop)])[0]


def read_clips(source: BinaryIO | Path | str, requests: Sequence[ClipRequest]) -> list[Frames]:
    """Decodes several clips of one video in one pass, in the order of `requests`.

    Each wanted time gets the frame of the nearest presentation time inside the clip (the earlier one of two
    equally near), scaled to cover the wanted size and cropped around the centre.

    Returns:
        one uint8 [T, H, W, 3] per request.

    Raises:
        ValueError: a clip is too short, the video holds no frame inside it, or it cannot be decoded.
    """
    import av

    clips = [np.zeros((r.frames, r.height, r.width, 3), np.uint8) for r in requests]
    waiting = sorted(
        (time, number, index) for number, request in enumerate(requests) for index, time in enumerate(request.times())
    )
    if not waiting:
        return []
    try:
        with av.open(source if hasattr(source, "read") else str(source)) as container:
            if not container.streams.video:
                raise ValueError("no video stream in the file")
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            if waiting[0][0] > 1:
                container.seek(int(waiting[0][0] / stream.time_base), stream=stream, backward=True, any_frame=False)
            done = _fill(container.decode(stream), stream.time_base, waiting, requests, clips)
    except av.FFmpegError as error:
        raise ValueError(f"the video cannot be decoded: {error}") from error
    if done < len(waiting):
        time, number, _ = waiting[done]
        raise ValueError(
            f"no frame at {float(time):.3f} s: the video ends before the clip "
            f"{float(requests[number].start):.3f}-{float(requests[number].end):.3f} s does"
        )
    return clips


def read_end(source: Path, frames: int, fps: float, *, height: int, width: int) -> Frames:
    """Decodes the last frames of a video at a rate.

    Args:
        source: the file.
        frames: how many.
        fps: frames per second of the result; each wanted time gets the nearest frame.
        height: pixels, scaled to cover and cropped around the centre.
        width: likewise.

    Returns:
        uint8 [T, H, W, 3].

    Raises:
        ValueError: the video is too short, or cannot be decoded.
    """
    import av

    try:
        with av.open(str(source)) as container:
            if not container.streams.video:
                raise ValueError("no video stream in the file")
            stream = container.streams.video[0]
            spans = [(p.pts, p.pts + (p.duration or 0)) for p in container.demux(stream) if p.pts is not None]
            first = min((begin for begin, _ in spans), default=0) * stream.time_base
            end = max((stop for _, stop in spans), default=0) * stream.time_base
    except av.FFmpegError as error:
        raise ValueError(f"the video cannot be read: {error}") from error
    start = end - frames / Fraction(fps).limit_denominator(1001)
    if start < first:
        raise ValueError(f"{frames} frames at {fps:g} a second do not fit into the video's {float(end - first):.3f} s")
    return read_clip(source, start, end, frames, fps, height=height, width=width)


def _fill(
    decoded: Any,
    time_base: Fraction,
    waiting: list[tuple[Fraction, int, int]],
    requests: Sequence[ClipRequest],
    clips: list[Frames],
) -> int:
    """Puts the frame nearest to each waiting time in its place; returns how many places were filled."""
    previous: tuple[Fraction, Any] | None = None
    done = 0
    for frame in decoded:
        if frame.pts is None:
            continue
        current = (frame.pts * time_base, frame)
        while done < len(waiting) and waiting[done][0] <= current[0]:
            done += _place(waiting[done], previous, current, requests, clips)
        if done == len(waiting):
            break
        previous = current
    while done < len(waiting) and previous is not None:
        time, number, _ = waiting[done]
        # The last frame of a file stands until the clip's end; further away the file is simply too short.
        if time - previous[0] > 1 / Fraction(requests[number].fps).limit_denominator(1001):
            break
        done += _place(waiting[done], previous, None, requests, clips)
    return done


def _place(
    wanted: tuple[Fraction, int, int],
    before: tuple[Fraction, Any] | None,
    after: tuple[Fraction, Any] | None,
    requests: Sequence[ClipRequest],
    clips: list[Frames],
) -> int:
    time, number, index = wanted
    request = requests[number]
    inside = [pair for pair in (before, after) if pair is not None and request.start <= pair[0] < request.end]
    if not inside:
        raise ValueError(f"no frame between {float(request.start):.3f} and {float(request.end):.3f} s")
    _, frame = min(inside, key=lambda pair: abs(pair[0] - time))
    clips[number][index] = _fit(frame.to_image(), request)
    return 1


def _fit(image: Image.Image, request: ClipRequest) -> Frames:
    """Scales to cover the wanted size, cropping around the centre."""
    from PIL import Image as Pillow

    x, y, width, height = request.crop or (0, 0, image.width, image.height)
    scale = min(width / request.width, height / request.height)
    used_width, used_height = scale * request.width, scale * request.height
    left, top = x + (width - used_width) / 2, y + (height - used_height) / 2
    box = (left, top, left + used_width, top + used_height)
    resized = image.resize((request.width, request.height), Pillow.Resampling.BILINEAR, box=box)
    return np.asarray(resized, dtype=np.uint8)


@lru_cache(maxsize=1)
def reproducible_x264() -> str:
    """The part of `x264-params` that makes equal pictures equal bytes; empty where nothing is needed.

    x264's AVX-512 code now and then writes other bytes for the same pictures (seen with x264 in PyAV 18.1: 5 of 1,200
    encodes of one clip). x264 does not check that the CPU has the instruction sets it is configured to use, hence the
    look at the CPU: whatever has AVX-512 has those named here, and other CPUs use them or older ones by themselves.
    """
    cpu = Path("/proc/cpuinfo")
    has_avx512 = cpu.is_file() and "avx512f" in cpu.read_text(encoding="utf-8", errors="replace")
    return "asm=avx2,fma3,bmi2" if has_avx512 else ""


def write_video(path: Path, frames: Frames, fps: float) -> Path:
    """Writes an MP4 (H.264, yuv420p) whose bytes depend on the frames and the rate alone.

    Args:
        path: the file to write.
        frames: uint8 [T, H, W, 3], H and W even.
        fps: frames per second.

    Raises:
        ValueError: no frames, or a shape that H.264 with 4:2:0 chroma cannot hold.
    """
    import av

    if frames.ndim != 4 or frames.shape[0] < 1 or frames.shape[3] != 3 or frames.dtype != np.uint8:
        raise ValueError(f"expected uint8 frames [T, H, W, 3], not {frames.dtype} {list(frames.shape)}")
    height, width = frames.shape[1:3]
    if height % 2 or width % 2:
        raise ValueError(f"height and width have to be even, not {height}x{width}")
    # bitexact keeps the names of library versions out of the file
    with av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact", "movflags": "+faststart"}) as container:
        stream: Any = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        options = {"crf": "16", "preset": "medium", "flags": "+bitexact", "bf": "0"}
        stream.options = options | {"x264-params": reproducible_x264()}
        stream.codec_context.thread_count = 1
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        container.mux(stream.encode(None))
    return path
