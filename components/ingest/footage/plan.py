"""Plans films: which scene shows what, and which carries a defect. No pixel is touched here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, get_args

import numpy as np

from zoetrope.components.ingest.footage.config import Color, DefectRates, Direction, FootageConfig, Shape

if TYPE_CHECKING:
    from numpy.random import Generator

TEXTURES: tuple[str, ...] = ("striped", "checked", "dotted", "cloudy")
SCENE_DEFECTS: tuple[str, ...] = ("static", "blur", "bars", "text", "jitter")
FILM_DEFECTS: tuple[str, ...] = ("low_bits", "low_fps", "truncated", "variable_frame_rate")
COPY_DEFECTS: tuple[str, ...] = ("duplicate", "reencoded")
LOW_FPS = 12
DISSOLVE_SECONDS = 0.4


@dataclass(frozen=True)
class Scene:
    """One shot.

    Attributes:
        color: colour word of the object.
        direction: where the object goes; empty when it stands still.
        shape: shape word of the object.
        texture: word for the background.
        start: first frame of the film that shows this scene alone.
        end: frame after the last that shows this scene alone.
        lead_in: frames of the dissolve before `start`.
        defect: one of `SCENE_DEFECTS` or empty.
        seed: of everything else in the picture.
    """

    color: str
    direction: str
    shape: str
    texture: str
    start: int
    end: int
    lead_in: int
    defect: str
    seed: int

    @property
    def caption(self) -> str:
        """What a person would say about the scene."""
        return caption_text(self.color, self.direction, self.shape, self.texture)

    @property
    def attributes(self) -> dict[str, str]:
        """The words that can be checked in pixels."""
        return {"color": self.color, "direction": self.direction, "shape": self.shape}


@dataclass(frozen=True)
class Film:
    """One file: its scenes in order, its frame rate and the defect of the whole film (or empty)."""

    name: str
    fps: int
    scenes: tuple[Scene, ...]
    defect: str
    seed: int


@dataclass(frozen=True)
class Copy:
    """Another file with the pictures of a film: `duplicate` has its bytes, `reencoded` is encoded once more."""

    name: str
    film: str
    defect: str


@dataclass(frozen=True)
class FootagePlan:
    """Everything that will be rendered."""

    films: tuple[Film, ...]
    copies: tuple[Copy, ...]
    held_out: tuple[tuple[str, str], ...] = field(default=())

    @property
    def names(self) -> list[str]:
        """Of all files: films first."""
        return [film.name for film in self.films] + [copy.name for copy in self.copies]

    def copies_of(self, film: Film) -> tuple[Copy, ...]:
        """Copies of one film, in the order of the plan."""
        return tuple(copy for copy in self.copies if copy.film == film.name)


def caption_text(color: str, direction: str, shape: str, texture: str) -> str:
    """The sentence for a scene, e.g. `a red circle moving left over a grey striped background`."""
    action = f"moving {direction}" if direction else "standing still"
    return f"a {color} {shape} {action} over a grey {texture} background"


def held_out_pairs(config: FootageConfig) -> tuple[tuple[str, str], ...]:
    """(colour, direction) pairs that no film shows: spread over colours first, directions next."""
    colors, directions = get_args(Color)[: config.colors], get_args(Direction)[: config.directions]
    diagonal = [
        (color, directions[(number + turn + config.seed) % len(directions)])
        for turn in range(len(directions))
        for number, color in enumerate(colors)
    ]
    return tuple(diagonal[: config.held_out_pairs])


def held_out_prompts(config: FootageConfig) -> list[dict[str, object]]:
    """Prompts for the held-out pairs; the first pairs x shapes prompts hold every combination once."""
    prompts: list[dict[str, object]] = []
    for texture, shape, (color, direction) in product(
        TEXTURES, get_args(Shape)[: config.shapes], held_out_pairs(config)
    ):
        attributes = {"color": color, "direction": direction, "shape": shape}
        prompts.append({"prompt": caption_text(color, direction, shape, texture), "attributes": attributes})
    return prompts


def plan_footage(config: FootageConfig) -> FootagePlan:
    """Lays out all films; depends on the configuration alone."""
    rng = np.random.default_rng([config.seed, 1])
    held_out = held_out_pairs(config)
    words = _combinations(config, held_out, config.films * config.shots_per_film, rng)
    rates = config.rates if config.defects else _no_defects()
    film_defects = _spread({name: getattr(rates, name) for name in FILM_DEFECTS}, config.films, rng)
    # Scenes of films that the raw gates throw away would hide their own defect.
    healthy = [i for i in range(len(words)) if not film_defects[i // config.shots_per_film]]
    picked = _spread({name: getattr(rates, name) for name in SCENE_DEFECTS}, len(healthy), rng)
    scene_defects = dict(zip(healthy, picked, strict=True))
    films = []
    for number in range(config.films):
        first = number * config.shots_per_film
        indices = range(first, first + config.shots_per_film)
        fps = LOW_FPS if film_defects[number] == "low_fps" else config.fps
        scenes = _scenes([words[i] for i in indices], [scene_defects.get(i, "") for i in indices], fps, config, rng)
        seed = int(rng.integers(2**31))
        films.append(Film(f"film_{number:04d}.mp4", fps, scenes, film_defects[number], seed))
    whole = [film.name for film in films if not film.defect]
    copies = []
    for defect in COPY_DEFECTS:
        count = min(round(getattr(rates, defect) * config.films), len(whole))
        originals = sorted(rng.choice(whole, count, replace=False).tolist()) if count else []
        # Sorted by name a copy stands behind its original, which is thus the one that is kept.
        copies += [Copy(name.replace(".mp4", f"_{defect}.mp4"), name, defect) for name in originals]
    return FootagePlan(tuple(films), tuple(copies), held_out)


def _combinations(
    config: FootageConfig, held_out: Sequence[tuple[str, str]], count: int, rng: Generator
) -> list[tuple[str, str, str, str]]:
    """`count` (colour, direction, shape, texture) tuples: all combinations equally often, in random order."""
    pairs = set(held_out)
    every = [
        (color, direction, shape)
        for color, direction, shape in product(
            get_args(Color)[: config.colors],
            get_args(Direction)[: config.directions],
            get_args(Shape)[: config.shapes],
        )
        if (color, direction) not in pairs
    ]
    order: list[int] = []
    while len(order) < count:
        order += rng.permutation(len(every)).tolist()
    textures = rng.integers(len(TEXTURES), size=count)
    return [(*every[i], TEXTURES[texture]) for i, texture in zip(order[:count], textures, strict=True)]


def _no_defects() -> DefectRates:
    return DefectRates(**dict.fromkeys(DefectRates.model_fields, 0.0))


def _spread(rates: dict[str, float], count: int, rng: Generator) -> list[str]:
    """A defect name or an empty string for each of `count` places: exactly round(rate * count) of each name."""
    places = [""] * count
    free = rng.permutation(count).tolist()
    for name, rate in rates.items():
        for place in free[: round(rate * count)]:
            places[place] = name
        free = free[round(rate * count) :]
    return places


def _scenes(
    words: Sequence[tuple[str, str, str, str]],
    defects: Sequence[str],
    fps: int,
    config: FootageConfig,
    rng: Generator,
) -> tuple[Scene, ...]:
    """Puts scenes one after the other, some of them behind a dissolve."""
    scenes: list[Scene] = []
    position = 0
    for number, ((color, direction, shape, texture), defect) in enumerate(zip(words, defects, strict=True)):
        dissolve = number > 0 and rng.random() < config.dissolve_rate
        lead_in = round(DISSOLVE_SECONDS * fps) if dissolve else 0
        start = position + lead_in
        position = start + round(config.shot_seconds * fps) + int(rng.integers(0, 5))
        going = "" if defect == "static" else direction
        seed = int(rng.integers(2**31))
        scenes.append(Scene(color, going, shape, texture, start, position, lead_in, defect, seed))
    return tuple(scenes)
