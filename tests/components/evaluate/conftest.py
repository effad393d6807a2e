"""Videos whose content is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

Render = Callable[..., np.ndarray]
RGB = {
    "red": (220, 40, 40),
    "green": (40, 180, 60),
    "blue": (40, 80, 220),
    "yellow": (230, 210, 40),
    "magenta": (200, 40, 200),
    "cyan": (40, 200, 210),
}
STEPS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}


def render_video(color: str, direction: str, *, shift: float = 0.5, size: int = 64, seed: int = 0) -> np.ndarray:
    """A disc over a grey texture, uint8 [16, size, size, 3]; `shift` is its path as a share of the frame."""
    rng = np.random.default_rng(seed)
    texture = rng.integers(90, 160, (size // 4, size // 4, 1)).repeat(4, 0).repeat(4, 1)
    # a slight tint and noise, as a small autoencoder leaves them
    background = texture + np.array([6, 0, -6])
    dx, dy = STEPS[direction]
    y, x = np.mgrid[:size, :size]
    frames = []
    for time in np.linspace(-0.5, 0.5, 16):
        center_x, center_y = size / 2 + dx * time * shift * size, size / 2 + dy * time * shift * size
        frame = background.astype(float)
        frame[(x - center_x) ** 2 + (y - center_y) ** 2 < (0.2 * size) ** 2] = RGB[color]
        frames.append(frame)
    return np.clip(np.stack(frames) + rng.normal(0, 6, (16, size, size, 3)), 0, 255).astype(np.uint8)


@pytest.fixture
def render() -> Render:
    return render_video
