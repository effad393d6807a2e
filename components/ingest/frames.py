"""The identity of a video by what it shows: a digest of its decoded frames, which a change of container keeps."""

from __future__ import annotations

import functools
import hashlib
from fractions import Fraction
from typing import Any

PLAIN = "rgba64le"
"""What pictures with a palette, or with samples that share bytes, are converted to; it loses nothing of theirs."""


class FrameDigest:
    """SHA-256 over frames in presentation order, each with its pixel format, size, exact time and pixels.

    Neither the container nor the padding of rows has a part in it. Decoders that the standards do not bind to exact
    pixels (MPEG-4 part 2) may give another digest in another version of the library.
    """

    def __init__(self) -> None:
        from av.video.reformatter import VideoReformatter

        self._hash = hashlib.sha256()
        self._reformatter = VideoReformatter()

    def add(self, frame: Any, time_base: Fraction) -> None:
        """Takes a decoded frame; its time counts in steps of `time_base` seconds."""
        time = "?" if frame.pts is None else str(frame.pts * time_base)
        self._hash.update(f"{frame.format.name} {frame.width}x{frame.height} {time}\n".encode())
        widths = row_bytes(frame.format.name, frame.width, frame.height)
        if not widths:
            frame = self._reformatter.reformat(frame, format=PLAIN)
            widths = row_bytes(PLAIN, frame.width, frame.height)
        for plane, width in zip(frame.planes, widths, strict=True):
            data = memoryview(plane)
            if plane.line_size == width:
                self._hash.update(data[: plane.height * width])
                continue
            for row in range(plane.height):
                self._hash.update(data[row * plane.line_size :][:width])

    def hexdigest(self) -> str:
        """The digest of what was added."""
        return self._hash.hexdigest()


@functools.lru_cache(maxsize=32)
def row_bytes(name: str, width: int, height: int) -> tuple[int, ...]:
    """Bytes of a row of each plane without padding; empty for palettes and where samples share bytes."""
    import av

    nominal = av.VideoFormat(name, 64, 64)
    whole = sum(each.width * each.height * _bytes(each) for each in nominal.components)
    if nominal.has_palette or 8 * whole != 64 * 64 * nominal.padded_bits_per_pixel:
        return ()
    components = av.VideoFormat(name, width, height).components
    planes = range(1 + max(each.plane for each in components))
    return tuple(sum(each.width * _bytes(each) for each in components if each.plane == plane) for plane in planes)


def _bytes(component: Any) -> int:
    """Bytes that a sample takes where it shares none with another."""
    return -(-int(component.bits) // 8)
