"""`make images`: builds the images, pushes them and writes `images.lock`."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.images.lock import LOCK, read_images, write_images
from zoetrope.infra.images.reference import ImageReference, check_prefix

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Image:
    """One image.

    Attributes:
        name: in `images.lock`; pushed as `zoetrope-NAME`.
        inputs: what it is made of; the newest commit that touched any of it is the image's revision.
        dockerfile: path in the checkout.
        target: stage of the Dockerfile; empty for its last.
        context: folder that is sent to docker.
    """

    name: str
    inputs: tuple[str, ...]
    dockerfile: str = "infra/images/Dockerfile"
    target: str = ""
    context: str = "."


_COMMON = ("infra/images/Dockerfile", ".dockerignore", "infra/locks/image-build.lock")
_PACKAGE = ("pyproject.toml", "setup.py", "components", "infra", "model", "pipelines")
_TORCH = ("infra/locks/image-torch.lock", "infra/locks/image-train.lock")
_POSTGRES = "tests/e2e/images/postgres"
# What the cluster runs.
PRODUCT = (
    Image("core", (*_COMMON, *_PACKAGE, "infra/locks/image-core.lock"), target="core"),
    Image("train", (*_COMMON, *_PACKAGE, *_TORCH), target="train"),
    Image("tracking", (*_COMMON, "infra/locks/image-tracking.lock"), target="tracking"),
    Image("evaluate", (*_COMMON, *_PACKAGE, *_TORCH, "infra/locks/vbench.lock"), target="evaluate"),
)
# What only tests need, built when it is named.
TESTS = (Image("postgres", (_POSTGRES,), f"{_POSTGRES}/Dockerfile", context=_POSTGRES),)
IMAGES = {image.name: image for image in (*PRODUCT, *TESTS)}
_PUSHED = re.compile(r"digest: (sha256:[0-9a-f]{64})")
# What people run into -> what they can do. The first that matches is said.
_HINTS = (
    (r"no space left on device", "free some disk: docker builder prune, and old images"),
    (r"connection refused|no such host|i/o timeout|TLS handshake", "check the name of the registry and the network"),
    (r"server gave HTTP response to HTTPS client", "the registry has no TLS: name it in docker's insecure-registries"),
    (r"denied|unauthorized|no basic auth|authentication required", "docker login, with an account that may do this"),
    (r"(pull access|manifest|not found).*", "check BASE_IMAGE: any Debian 12 image that docker can pull or has"),
)


@dataclass(frozen=True)
class Build:
    """How the images are built.

    Attributes:
        registry: `host/prefix` to push to.
        base_image: overrides the Dockerfile's base; empty keeps it.
        options: further options of `docker build`.
        docker: the program.
        root: the checkout.
    """

    registry: str
    base_image: str = ""
    options: tuple[str, ...] = ()
    docker: str = "docker"
    root: Path = ROOT


def build_images(names: Sequence[str], build: Build, lock: Path = LOCK) -> dict[str, str]:
    """Builds and pushes images, then writes their digests; images of the lock that are not built now stay in it.

    Returns:
        name -> image by digest.

    Raises:
        ZoetropeError: no docker, an unknown image, a build that failed, or a registry that refuses.
    """
    registry = check_prefix(build.registry)
    for name in names:
        if name not in IMAGES:
            raise ZoetropeError(f"unknown image {name!r}", f"images: {', '.join(IMAGES)}")
    check_docker(build)
    known = read_images(lock).images if lock.exists() else {}
    made: dict[str, str] = {}
    for name in names:
        started = time.monotonic()
        made[name] = str(_build_and_push(IMAGES[name], registry, build))
        _say(f"{name} {made[name]} ({time.monotonic() - started:.0f} s)")
    write_images({**known, **made}, lock)
    _say(f"wrote {lock}")
    return made


def check_docker(build: Build) -> None:
    """Whether docker is here and its daemon answers.

    Raises:
        ZoetropeError: it is not.
    """
    if shutil.which(build.docker) is None:
        raise ZoetropeError("docker is not installed: the images are built with it", "install Docker 20.10 or newer")
    done = subprocess.run(
        [build.docker, "version", "--format", "{{.Server.Version}}"], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        reason = _last_line(done.stderr) or "it does not answer"
        raise ZoetropeError(f"docker's daemon cannot be used: {reason}", "start it, or let DOCKER_HOST point at one")


def revision(image: Image, root: Path = ROOT) -> str:
    """The last commit that touched what an image is made of, `+dirty` where the files differ from it.

    Equal inputs have an equal label, therefore an equal digest and the same key in KFP's cache.
    """
    commit = _git(root, "log", "-1", "--format=%H", "--", *image.inputs)
    if not commit:
        return "unknown"
    return commit + ("+dirty" if _git(root, "status", "--porcelain", "--", *image.inputs) else "")


def source(root: Path = ROOT) -> str:
    """Where the code comes from: the checkout's remote without any login; empty where it has none."""
    parts = urlsplit(_git(root, "config", "--get", "remote.origin.url"))
    if parts.scheme not in ("http", "https", "ssh", "git") or not parts.hostname:
        return ""
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}{parts.path}"


def build_command(image: Image, tag: str, build: Build) -> list[str]:
    """The `docker build` of one image."""
    labels = {"revision": revision(image, build.root), "source": source(build.root)}
    command = [build.docker, "build", "--file", image.dockerfile, "--tag", tag, *build.options]
    command += ["--target", image.target] if image.target else []
    for label, value in labels.items():
        command += ["--label", f"org.opencontainers.image.{label}={value}"] if value else []
    if build.base_image:
        command += ["--build-arg", f"BASE_IMAGE={build.base_image}"]
    return [*command, image.context]


def _build_and_push(image: Image, registry: str, build: Build) -> ImageReference:
    commit = revision(image, build.root)
    tag = f"{registry}/zoetrope-{image.name}:{commit[:12]}{'-dirty' if commit.endswith('+dirty') else ''}"
    _say(f"{image.name}: building ...")
    _docker(f"image {image.name} was not built", build_command(image, tag, build), build.root)
    _say(f"{image.name}: pushing ...")
    said = _docker(f"image {image.name} was not pushed to {registry}", [build.docker, "push", tag], build.root)
    digests = _PUSHED.findall(said)
    if not digests:
        raise ZoetropeError(f"{registry} returned no digest for {image.name}", f"docker push {tag} shows what it says")
    return ImageReference.parse(f"{tag.rpartition(':')[0]}@{digests[-1]}")


def _docker(headline: str, command: list[str], root: Path) -> str:
    """Runs docker; a failure becomes one line with the reason that docker gave last."""
    # attestations hold the time of the build: with them no two builds would have one digest
    environment = {**os.environ, "BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}
    done = subprocess.run(
        command, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode == 0:
        return done.stdout
    reason = _last_line(done.stdout)
    fitting = (hint for pattern, hint in _HINTS if re.search(pattern, reason, re.IGNORECASE))
    sys.stderr.write("\n".join(done.stdout.splitlines()[-20:-1]) + "\n")
    raise ZoetropeError(f"{headline}: {reason}", next(fitting, f"the lines above say why; {shlex.join(command)}"))


def _git(root: Path, *arguments: str) -> str:
    """What git says, empty where it fails."""
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _last_line(text: str) -> str:
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in text.splitlines()]
    return next((line for line in reversed(lines) if line), "")


def _say(line: str) -> None:
    sys.stdout.write(f"zoetrope images: {line}\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="zoetrope images", description=__doc__)
    parser.add_argument("--registry", default="", help="host/prefix to push to")
    parser.add_argument("--base-image", default="", help="a Debian 12 image; default: the Dockerfile's")
    parser.add_argument("--image", action="append", choices=tuple(IMAGES), help="only this one; may be repeated")
    parser.add_argument("--build-options", default="", help="further options of docker build, as one word")
    parser.add_argument("--lock", type=Path, default=LOCK, help="file to write")
    options = parser.parse_args(arguments)
    build = Build(options.registry, options.base_image, tuple(shlex.split(options.build_options)))
    try:
        build_images(options.image or [image.name for image in PRODUCT], build, options.lock)
    except ZoetropeError as error:
        sys.stderr.write(f"zoetrope images: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
