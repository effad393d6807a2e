"""An image named by its digest: `HOST/PREFIX/NAME@sha256:...`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from zoetrope.infra.errors import ZoetropeError

# The grammar of the OCI distribution specification; a host has a dot, a port, or is `localhost`.
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?"
_PATH = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(rf"(?P<host>{_HOST})/(?P<repository>{_PATH}(?:/{_PATH})*)@(?P<digest>sha256:[0-9a-f]{{64}})")
_PREFIX = re.compile(rf"(?P<host>{_HOST})(?:/{_PATH})*")


@dataclass(frozen=True)
class ImageReference:
    """Where an image lies and what it is.

    Attributes:
        host: registry with its port, e.g. `registry.example.org:5000`.
        repository: path below the host.
        digest: `sha256:` and 64 hexadecimal digits.
    """

    host: str
    repository: str
    digest: str

    @classmethod
    def parse(cls, text: str) -> ImageReference:
        """Reads a reference.

        Raises:
            ZoetropeError: it has no digest, has a tag, or does not begin with a registry.
        """
        found = _REFERENCE.fullmatch(text)
        if found is None or not is_registry(found["host"]):
            raise ZoetropeError(
                f"{text!r} does not name an image by its digest",
                "HOST/PREFIX/NAME@sha256:DIGEST, as `make images` writes it; tags can be moved and are refused",
            )
        return cls(found["host"], found["repository"], found["digest"])

    def __str__(self) -> str:
        return f"{self.host}/{self.repository}@{self.digest}"


def is_registry(host: str) -> bool:
    """Whether docker takes the first part of a name for a registry and not for a folder of Docker Hub."""
    return "." in host or ":" in host or host == "localhost"


def check_prefix(text: str) -> str:
    """A registry with an optional path, as `make images REGISTRY=` takes it.

    Raises:
        ZoetropeError: empty, with a scheme, or with signs that no image name may have.
    """
    found = _PREFIX.fullmatch(text.rstrip("/"))
    if found is None or not is_registry(found["host"]):
        raise ZoetropeError(
            f"REGISTRY={text!r} is not a registry to push to" if text else "no registry to push to",
            "make images REGISTRY=host/prefix, e.g. registry.example.org/video; lower case, without https://",
        )
    return text.rstrip("/")
