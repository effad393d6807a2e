"""`make overlay`: an overlay of manifests/ with the digests of `images.lock`, as a folder to apply.

The overlays name our images without a registry, since whose registry it is stands in the lock alone. What is written
here is a kustomization of a few lines over them: `kubectl apply -k FOLDER`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.images.lock import LOCK, read_images
from zoetrope.infra.images.reference import ImageReference

MANIFESTS = Path("manifests")
NEEDED = ("core", "train", "tracking")
"""Images that the manifests name; `evaluate` is a step's alone."""


def write_overlay(
    overlay: str, target: Path, *, lock: Path = LOCK, images: Mapping[str, str] | None = None, root: Path = MANIFESTS
) -> Path:
    """Writes `target/kustomization.yaml` over `root/overlays/OVERLAY`.

    Args:
        overlay: `dev`, `prod`, `profile`, or one of your own beside them.
        target: folder to write; what kustomization it has is replaced.
        lock: what `make images` wrote.
        images: further images by name, e.g. `postgres` -> `HOST/PREFIX/postgres@sha256:...`.
        root: the folder `manifests`.

    Raises:
        ZoetropeError: no such overlay, an image that the lock does not hold, one without digest, or an unwritable
            folder.
    """
    base = root / "overlays" / overlay
    if not (base / "kustomization.yaml").is_file():
        known = ", ".join(sorted(path.parent.name for path in root.glob("overlays/*/kustomization.yaml")))
        raise ZoetropeError(f"there is no overlay {overlay!r}", f"OVERLAY is one of: {known or 'none in ' + str(root)}")
    known_images = read_images(lock)
    chosen = {f"zoetrope-{name}": known_images.image(name) for name in NEEDED} | dict(images or {})
    # JSON is YAML; its strings need no second thought about quoting.
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(base, target)],
        "images": [_replacement(name, image) for name, image in sorted(chosen.items())],
    }
    path = target / "kustomization.yaml"
    try:
        target.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(kustomization, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ZoetropeError(f"{path} cannot be written: {error.strerror}", "check the folder and its disk") from error
    return path


def _replacement(name: str, image: str) -> dict[str, Any]:
    reference = ImageReference.parse(image)
    return {"name": name, "newName": f"{reference.host}/{reference.repository}", "digest": reference.digest}


def _named(text: str) -> tuple[str, str]:
    name, _, image = text.partition("=")
    return name, image


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="zoetrope overlay", description=__doc__)
    parser.add_argument("overlay", help="dev, prod, profile")
    parser.add_argument("target", type=Path, help="folder to write")
    parser.add_argument("--lock", type=Path, default=LOCK, help="what `make images` wrote")
    parser.add_argument("--image", action="append", default=[], type=_named, metavar="NAME=HOST/PREFIX/NAME@DIGEST")
    options = parser.parse_args(arguments)
    try:
        write_overlay(options.overlay, options.target, lock=options.lock, images=dict(options.image))
    except ZoetropeError as error:
        sys.stderr.write(f"zoetrope overlay: {error}\n")
        return error.exit_code
    sys.stdout.write(f"zoetrope overlay: kubectl apply -k {options.target}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
