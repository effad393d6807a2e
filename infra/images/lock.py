"""`images.lock`: name -> image by digest. Pipelines compile with these and never with tags.

KFP's cache key holds the image string, so a tag that was moved would answer from the cache for other code. The file
belongs to whoever pushed the images (git-ignored); it is TOML, one line for each image.
"""

from __future__ import annotations

import difflib
import os
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path

from zoetrope.infra.config import StrictModel
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.images.reference import ImageReference

LOCK = Path("images.lock")
BUILD_HINT = "make images REGISTRY=host/prefix builds, pushes and writes it"


class ImagesLock(StrictModel):
    """The images that one registry answered for.

    Attributes:
        images: name (`core`, `train`, ...) -> `HOST/PREFIX/zoetrope-NAME@sha256:...`.
        origin: the file, for messages.
    """

    images: dict[str, str]
    origin: str = str(LOCK)

    def image(self, name: str) -> str:
        """The image of that name.

        Raises:
            ZoetropeError: the lock does not hold it.
        """
        if name in self.images:
            return self.images[name]
        near = difflib.get_close_matches(name, self.images, 1)
        nearest = f"did you mean {near[0]!r}? " if near else ""
        raise ZoetropeError(
            f"{self.origin} holds no image {name!r}",
            f"{nearest}it holds: {', '.join(sorted(self.images)) or 'nothing'}; {BUILD_HINT}",
        )


def read_images(path: Path = LOCK) -> ImagesLock:
    """Reads and checks a lock.

    Raises:
        ZoetropeError: no such file, not TOML, or a line that is no image by digest.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ZoetropeError(f"{path} does not exist: no image is known by its digest", BUILD_HINT) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ZoetropeError(f"{path} cannot be read: {error}", BUILD_HINT) from error
    try:
        entries = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ZoetropeError(f"{path} is not TOML: {error}", BUILD_HINT) from error
    for name, value in entries.items():
        if not isinstance(value, str):
            raise ZoetropeError(f"{path}: {name} is not text", 'name = "HOST/PREFIX/NAME@sha256:DIGEST"')
        try:
            ImageReference.parse(value)
        except ZoetropeError as error:
            raise ZoetropeError(f"{path}: {name}: {error.headline}", error.hint) from error
    return ImagesLock(images=entries, origin=str(path))


def write_images(images: Mapping[str, str], path: Path = LOCK) -> None:
    """Writes a lock, whole or not at all.

    Raises:
        ZoetropeError: a value that is no image by digest, or the file cannot be written.
    """
    lines = [f'{name} = "{ImageReference.parse(value)}"' for name, value in sorted(images.items())]
    text = "# Written by `make images`: what the registry answered for each image.\n" + "\n".join(lines) + "\n"
    try:
        descriptor, scratch = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(scratch).replace(path)
    except OSError as error:
        raise ZoetropeError(f"{path} cannot be written: {error.strerror}", "check the folder and its disk") from error
