"""Paints scenes: a textured background, one object, and the defects that are part of the picture."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from zoetrope.components.ingest.footage.plan import Film, Scene

Image = npt.NDArray[np.uint8]
Plane = npt.NDArray[np.float32]

RGB: dict[str, tuple[int, int, int]] = {
    "red": (225, 40, 40),
    "green": (40, 185, 60),
    "blue": (45, 75, 235),
    "yellow": (235, 220, 45),
    "magenta": (215, 50, 205),
    "cyan": (40, 205, 220),
}
STEPS: dict[str, tuple[int, int]] = {
    "left": (-1, 0),
    "right": (1, 0),
    "up": (0, -1),
    "down": (0, 1),
    "": (0, 0),
}
RADIUS = (0.18, 0.22)
"""Smallest and largest radius of an object, share of the picture's side: still 9 pixels wide at 48 pixels."""
SPEED = 0.27
"""Share of the picture's side per second: half of the picture in the 16 frames at 8 fps that training sees."""
BLUR_SIGMA = 1 / 28
JITTER_REACH = 1 / 20
BAR_HEIGHT = 1 / 8


def paint_film(film: Film, size: int) -> Iterator[Image]:
    """Yields the frames of a film in order, uint8 [size, size, 3] RGB; dissolves mix the two scenes linearly."""
    painters = [ScenePainter(scene, film.fps, size) for scene in film.scenes]
    for number, painter in enumerate(painters):
        scene = painter.scene
        for frame in range(scene.start - scene.lead_in, scene.start):
            share = (frame - (scene.start - scene.lead_in) + 1) / (scene.lead_in + 1)
            before = painters[number - 1].frame(frame).astype(np.float32)
            yield np.rint(before + share * (painter.frame(frame) - before)).astype(np.uint8)
        for frame in range(scene.start, scene.end):
            yield painter.frame(frame)


class ScenePainter:
    """Paints any frame of one scene; frames outside of it continue its motion (for dissolves)."""

    def __init__(self, scene: Scene, fps: int, size: int) -> None:
        self.scene = scene
        self.fps = fps
        self.size = size
        rng = np.random.default_rng(scene.seed)
        self.margin = round(JITTER_REACH * size) if scene.defect == "jitter" else 0
        self.background = paint_background(scene.texture, size + 2 * self.margin, size, rng)
        self.radius = float(rng.uniform(*RADIUS)) * size
        self.across = float(rng.uniform(0.32, 0.68))
        self.offset = float(rng.uniform(-0.03, 0.03))
        self.wide_bars = bool(rng.integers(2))
        self.overlay = _text_overlay(size, rng) if scene.defect == "text" else None

    def frame(self, number: int) -> Image:
        """Frame `number` of the film, uint8 [size, size, 3]."""
        scene = self.scene
        shift_x, shift_y = self._shake(number)
        x, y = self._centre(number)
        top, left = self.margin + shift_y, self.margin + shift_x
        image = self.background[top : top + self.size, left : left + self.size].copy()
        _paint_object(image, scene.shape, RGB[scene.color], x - shift_x, y - shift_y, self.radius)
        if scene.defect == "blur":
            return _blurred(image, BLUR_SIGMA * self.size)
        if scene.defect == "bars":
            bar = round(BAR_HEIGHT * self.size)
            edges = image if self.wide_bars else image.transpose(1, 0, 2)
            edges[:bar] = edges[-bar:] = 0
        if self.overlay is not None:
            ink, opacity = self.overlay
            image[opacity] = ink[opacity]
        return image

    def _centre(self, number: int) -> tuple[float, float]:
        """Centre of the object in pixels: half way through the scene it is near the middle of the picture."""
        scene = self.scene
        seconds = (number - (scene.start + scene.end - 1) / 2) / self.fps
        step_x, step_y = STEPS[scene.direction]
        along = 0.5 + self.offset
        x = along + step_x * SPEED * seconds if step_x else self.across
        y = along + step_y * SPEED * seconds if step_y else (self.across if step_x else along)
        return x * self.size, y * self.size

    def _shake(self, number: int) -> tuple[int, int]:
        if not self.margin:
            return 0, 0
        rng = np.random.default_rng([self.scene.seed, number])
        x, y = rng.integers(-self.margin, self.margin + 1, size=2)
        return int(x), int(y)


def paint_background(texture: str, side: int, size: int, rng: np.random.Generator) -> Image:
    """A greyish texture, uint8 [side, side, 3]; `size` is the picture's side that pattern lengths are shares of."""
    y, x = (np.mgrid[0:side, 0:side] / size).astype(np.float32)
    angle, phase = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi, 2)
    period = rng.uniform(0.12, 0.3)
    u = (x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / period + phase[0]
    v = (y * np.cos(angle) - x * np.sin(angle)) * 2 * np.pi / period + phase[1]
    if texture == "striped":
        pattern = np.tanh(4 * np.sin(u))
    elif texture == "checked":
        pattern = np.tanh(6 * np.sin(u) * np.sin(v))
    elif texture == "dotted":
        pattern = 2 / (1 + np.exp(8 * (0.4 - np.sin(u) * np.sin(v)))) - 1
    else:
        pattern = _clouds(x, y, rng)
    # A slow fall of light across the picture tells backgrounds of one texture apart.
    light = np.cos(x * rng.uniform(1, 3) + y * rng.uniform(-3, 3) + rng.uniform(0, 2 * np.pi))
    level = rng.uniform(75, 185) + rng.uniform(9, 16) * pattern + rng.uniform(8, 16) * light
    tint = rng.uniform(-5, 5, size=3)
    grain = rng.normal(0, 1.5, size=(side, side))
    picture: Image = np.clip(np.rint((level + grain)[..., None] + tint), 20, 235).astype(np.uint8)
    return picture


def _clouds(x: Plane, y: Plane, rng: np.random.Generator) -> npt.NDArray[np.floating]:
    """A sum of waves in random directions, about -1 to 1."""
    waves = np.zeros_like(x)
    for _ in range(8):
        kx, ky = rng.normal(0, 12, size=2)
        waves += np.sin(kx * x + ky * y + rng.uniform(0, 2 * np.pi)).astype(np.float32)
    return np.asarray(np.clip(waves / 2.5, -1, 1))


def _paint_object(image: Image, shape: str, rgb: tuple[int, int, int], x: float, y: float, radius: float) -> None:
    """Blends the object into `image` in place, with edges one pixel soft so that slow motion is smooth."""
    reach = int(1.3 * radius) + 2
    left, right = max(0, int(x) - reach), min(image.shape[1], int(x) + reach + 1)
    top, bottom = max(0, int(y) - reach), min(image.shape[0], int(y) + reach + 1)
    if left >= right or top >= bottom:
        return
    dx = np.arange(left, right, dtype=np.float32)[None, :] - np.float32(x)
    dy = np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(y)
    opacity = np.clip(0.5 - _distance(shape, dx, dy, radius), 0, 1)[..., None]
    patch = image[top:bottom, left:right]
    patch[:] = (patch + opacity * (np.asarray(rgb, np.float32) - patch) + 0.5).astype(np.uint8)


def _distance(shape: str, dx: Plane, dy: Plane, radius: float) -> Plane:
    """Distance in pixels from the outline of the shape, negative inside; areas are about equal for all shapes."""
    if shape == "circle":
        return np.hypot(dx, dy) - np.float32(radius)
    if shape == "square":
        return np.maximum(np.abs(dx), np.abs(dy)) - np.float32(0.88 * radius)
    slope, drop = np.float32(np.sqrt(3) / 2), np.float32(0.5)
    return np.maximum(dy, slope * np.abs(dx) - drop * dy) - np.float32(0.7 * radius)


def _blurred(image: Image, sigma: float) -> Image:
    from scipy.ndimage import gaussian_filter

    soft: Image = gaussian_filter(image, sigma=(sigma, sigma, 0), mode="nearest")
    return soft


def _text_overlay(size: int, rng: np.random.Generator) -> tuple[Image, npt.NDArray[np.bool_]]:
    """White letters with a black outline: (pixels, which of them cover the picture)."""
    from PIL import Image as Pictures
    from PIL import ImageDraw, ImageFont

    text = "".join(rng.choice(list("ABCDEFGHKLMNPRSTUVWXYZ"), 8))
    height = max(8, size // 8)
    layer = Pictures.new("RGBA", (size, size))
    draw = ImageDraw.Draw(layer)
    top = int(rng.choice([height // 2, size - 2 * height]))
    font = ImageFont.load_default(size=height)
    draw.text((size // 16, top), text, (255, 255, 255, 255), font, stroke_width=1, stroke_fill=(0, 0, 0, 255))
    pixels = np.asarray(layer)
    return pixels[..., :3].copy(), pixels[..., 3] > 127
