"""References: a place together with the SHA-256 of what it must hold, written as `PLACE@sha256:HEX`.

Within a store the place is the key (`objects/ab/abcd....json`), so that the store can be moved or copied; absolute
URIs (`file:///...`, `s3://...`), as older manifests hold them, are read as well.

Steps pass nothing else to each other, so a cache key that holds a reference holds the content's digest.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoetrope.infra.errors import ZoetropeError

_PATTERN = re.compile(r"(?P<uri>\S.*)@sha256:(?P<digest>[0-9a-f]{64})", re.DOTALL)


@dataclass(frozen=True)
class Reference:
    """A place and the content that must be there.

    Attributes:
        uri: key in the store, `objects/ab/abcd....json`, or an absolute URI of it.
        digest: SHA-256 of the bytes at `uri`, 64 hexadecimal digits.
    """

    uri: str
    digest: str

    def __str__(self) -> str:
        return f"{self.uri}@sha256:{self.digest}"

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Reads `URI@sha256:HEX`; raises ZoetropeError for anything else."""
        match = _PATTERN.fullmatch(text.strip())
        if match is None:
            raise ZoetropeError(f"not a reference: {text!r}", "write it as URI@sha256:64-hexadecimal-digits")
        return cls(match["uri"], match["digest"])


def canonical_json(value: Any) -> bytes:
    """JSON bytes that depend on the value alone: sorted keys, no white space, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest_bytes(data: bytes) -> str:
    """SHA-256 of `data` as hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def digest_json(value: Any) -> str:
    """SHA-256 of the canonical JSON of `value`."""
    return digest_bytes(canonical_json(value))


def digest_file(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
