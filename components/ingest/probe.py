"""Looks at one file: its digest, what its header says, and whether what follows is really there."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

from zoetrope.components.ingest.frames import FrameDigest
from zoetrope.components.ingest.listing import special_file

# Only containers: libav also "opens" play lists that name other files, and text as pictures.
CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,mxf,ivf,h264,hevc,yuv4mpegpipe"
MISSING_FRAMES = 0.02
"""Share of the header's frames that may be missing: edit lists hide a few at either end of a healthy file."""


@dataclass(frozen=True)
class ProbeResult:
    """What is known of a file; numbers are 0 and texts empty where it could not be read so far.

    Attributes:
        problem: `code: sentence`, empty for a whole video.
        digest: SHA-256 of its bytes.
        frames_digest: SHA-256 of its decoded frames (`FrameDigest`); empty where nobody asked for it.
        bytes: size.
        duration: seconds.
        width: pixels.
        height: pixels.
        fps: mean number of frames a second.
        frames: number of frames.
        variable_frame_rate: whether the time between frames varies by more than a quarter.
        codec: e.g. `h264`.
        profile: e.g. `High`.
        bits_per_pixel: of the video stream alone.
    """

    problem: str = ""
    digest: str = ""
    frames_digest: str = ""
    bytes: int = 0
    duration: float = 0.0
    width: int = 0
    height: int = 0
    fps: float = 0.0
    frames: int = 0
    variable_frame_rate: bool = False
    codec: str = ""
    profile: str = ""
    bits_per_pixel: float = 0.0


def probe_file(path: Path, verify: str, identity: str = "bytes") -> ProbeResult:
    """Everything that ingest wants to know of one file; a bad file is a `problem`, never an error.

    Args:
        path: of the file.
        verify: `decode`, `packets` or `header`.
        identity: `frames` digests the frames as well, which takes `decode`.
    """
    try:
        # Without O_NONBLOCK, opening a pipe that took the file's place in the meantime would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        with os.fdopen(descriptor, "rb") as stream:
            status = os.fstat(descriptor)
            if problem := special_file(status.st_mode):
                return ProbeResult(problem)
            if status.st_size == 0:
                return ProbeResult("empty: the file has no bytes")
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            stream.seek(0)
            facts = _open(stream, verify, identity)
            return replace(facts, digest=digest, bytes=status.st_size)
    except OSError as error:
        return ProbeResult(f"unreadable: {error.strerror or error}")


def is_video(path: Path) -> bool:
    """Whether a file opens as a video; reads its header alone."""
    return not probe_file(path, "header").problem


def _open(stream: BinaryIO, verify: str, identity: str) -> ProbeResult:
    import av

    try:
        container = av.open(stream, options={"format_whitelist": CONTAINERS}, metadata_errors="replace")
    except (av.FFmpegError, ValueError):
        stream.seek(4)
        # An MP4 begins with a box called `ftyp`; one that does not open has lost the index at its end.
        if stream.read(4) == b"ftyp":
            return ProbeResult("truncated: an MP4 without its index, the end of the file is missing")
        return ProbeResult("not_a_video: no container format that holds video")
    with contextlib.closing(container):
        pictures = [
            track for track in container.streams.video if not track.disposition & av.stream.Disposition.attached_pic
        ]
        if not pictures:
            return ProbeResult("no_video_stream: a container without a video stream")
        return _read(container, pictures[0], verify, identity)


def _read(container: Any, track: Any, verify: str, identity: str) -> ProbeResult:
    """What is known of the video stream `track`."""
    context = track.codec_context
    expected = int(track.frames)
    facts = ProbeResult(
        width=int(context.width or 0),
        height=int(context.height or 0),
        codec=str(context.name),
        profile=str(context.profile or ""),
    )
    if verify == "header":
        return _from_header(facts, container, track, expected)
    found = _Timeline(FrameDigest() if identity == "frames" else None)
    problem = found.read(container, track, decode=verify == "decode")
    facts = replace(facts, **found.summary(track.time_base, facts.width * facts.height))
    if problem or facts.frames < expected * (1 - MISSING_FRAMES):
        seen = f"{facts.frames} of {expected} frames" if expected else f"{facts.frames} frames"
        if problem.startswith("damaged"):
            return replace(facts, problem=f"{problem} ({seen} are readable)")
        return replace(facts, problem=f"truncated: only {seen} are there")
    if not facts.frames:
        return replace(facts, problem="no_video_stream: the video stream holds no frame")
    return replace(facts, frames_digest=found.pictures.hexdigest() if found.pictures else "")


def _from_header(facts: ProbeResult, container: Any, track: Any, expected: int) -> ProbeResult:
    """The result as far as the container's header goes."""
    rate = float(track.average_rate or track.guessed_rate or 0)
    duration = float(track.duration * track.time_base) if track.duration else (container.duration or 0) / 1e6
    frames = expected or round(duration * rate)
    bits = float(track.bit_rate or container.bit_rate or 0)
    pixels = facts.width * facts.height * rate
    return replace(facts, duration=duration, fps=rate, frames=frames, bits_per_pixel=bits / pixels if pixels else 0.0)


class _Timeline:
    """Presentation times and sizes, collected packet by packet; `pictures` takes what is decoded."""

    def __init__(self, pictures: FrameDigest | None = None) -> None:
        self.pictures = pictures
        self.times: list[int] = []
        self.last_duration = 0
        self.bytes = 0

    def read(self, container: Any, track: Any, *, decode: bool) -> str:
        """Reads to the end; returns what is wrong, empty for nothing."""
        import av

        track.codec_context.thread_count = 1
        try:
            for packet in container.demux(track):
                self.bytes += packet.size
                if packet.is_corrupt:
                    return "truncated"
                if not decode and packet.pts is not None:
                    self._add(packet)
                for frame in packet.decode() if decode else ():
                    if frame.is_corrupt:
                        return "damaged: pictures that cannot be decoded"
                    self._add(frame)
                    if self.pictures is not None:
                        self.pictures.add(frame, Fraction(track.time_base))
        except av.FFmpegError as error:
            if decode and not isinstance(error, av.EOFError):
                return f"damaged: decoding stops with {error.strerror!r}"
            return "truncated"
        return ""

    def _add(self, item: Any) -> None:
        if item.pts is not None:
            self.times.append(int(item.pts))
            self.last_duration = int(item.duration or 0)

    def summary(self, time_base: Fraction, pixels: int) -> dict[str, Any]:
        """Duration, rate and density as fields of `ProbeResult`."""
        times = sorted(set(self.times))
        steps = [after - before for before, after in itertools.pairwise(times)]
        typical = sorted(steps)[len(steps) // 2] if steps else self.last_duration
        last = self.last_duration or typical
        duration = (times[-1] - times[0] + last) * time_base if times else Fraction(0)
        count = len(times)
        return {
            "frames": count,
            "duration": float(duration),
            "fps": float(count / duration) if duration else 0.0,
            "variable_frame_rate": bool(steps) and max(steps) - min(steps) > max(2, typical / 4),
            "bits_per_pixel": self.bytes * 8 / (pixels * count) if pixels and count else 0.0,
        }
