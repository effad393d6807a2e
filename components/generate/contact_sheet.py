"""One picture of many videos: first, middle and last frame in a row with the prompt."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy.typing as npt
    from numpy import uint8

TILE = 96
GAP = 8
CAPTION_HEIGHT = 30
BACKGROUND, INK = (255, 255, 255), (40, 44, 52)
FONT_SIZE = 12


def contact_sheet(rows: Sequence[tuple[str, Sequence[npt.NDArray[uint8]]]], image_format: str = "PNG") -> bytes:
    """Draws the sheet.

    Args:
        rows: (prompt, videos) with each video uint8 [T, H, W, 3]; the videos of a row stand side by side.
        image_format: `PNG` or `JPEG`.

    Returns:
        Bytes that depend on the rows alone.
    """
    from PIL import Image, ImageDraw, ImageFont

    columns = max((len(videos) for _, videos in rows), default=1)
    block = 3 * TILE + 2 * 2
    width = GAP + columns * (block + 2 * GAP)
    height = GAP + max(1, len(rows)) * (CAPTION_HEIGHT + TILE + GAP)
    sheet = Image.new("RGB", (width, height), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(FONT_SIZE)
    for number, (prompt, videos) in enumerate(rows):
        top = GAP + number * (CAPTION_HEIGHT + TILE + GAP)
        draw.text((GAP, top + 8), _shorten(prompt, width - 2 * GAP), fill=INK, font=font)
        for column, video in enumerate(videos):
            for place, index in enumerate((0, len(video) // 2, len(video) - 1)):
                left = GAP + column * (block + 2 * GAP) + place * (TILE + 2)
                tile = Image.fromarray(video[index]).resize((TILE, TILE), Image.Resampling.BILINEAR)
                sheet.paste(tile, (left, top + CAPTION_HEIGHT))
    buffer = io.BytesIO()
    sheet.save(buffer, format=image_format)
    return buffer.getvalue()


def _shorten(text: str, width: int) -> str:
    """As much of a text as fits, in one line; seven pixels are a wide letter of the font."""
    line = " ".join(text.split())
    limit = max(8, width // 7)
    return line if len(line) <= limit else line[: limit - 3] + "..."
