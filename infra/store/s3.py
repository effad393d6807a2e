"""A store in an S3 bucket (or anything that speaks S3), with the minio client."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from minio.error import S3Error

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.store.local import publish
from zoetrope.infra.store.s3_client import NOT_FOUND, S3Settings, again, connect, explained

PART_BYTES = 64 << 20  # S3 takes at most 10,000 parts: files up to 640 GiB
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


class S3Store:
    """Objects below `s3://bucket/prefix`. S3 shows an object whole or not at all; unfinished multipart uploads are
    aborted by the client.

    Args:
        root: `s3://bucket` or `s3://bucket/prefix`.
        settings: endpoint and credentials; read from the environment when None.

    Raises:
        ZoetropeError: `root` names no bucket.
    """

    def __init__(self, root: str, settings: S3Settings | None = None) -> None:
        parts = urlsplit(root)
        if parts.scheme != "s3" or not _BUCKET.fullmatch(parts.netloc):
            raise ZoetropeError(f"store {root!r}: not an S3 location", "write it as s3://bucket/prefix")
        self.bucket = parts.netloc
        self._prefix = parts.path.strip("/")
        self.root = f"s3://{self.bucket}" + (f"/{self._prefix}" if self._prefix else "")
        self._settings = settings or S3Settings()
        self._client = connect(self._settings)

    def uri(self, key: str) -> str:
        """The URI of `key`."""
        return f"s3://{self.bucket}/{self._name(key)}"

    def put_bytes(self, key: str, data: bytes) -> str:
        """Writes `data`."""
        name = self._name(key)
        with explained(self.uri(key), self._settings):
            self._client.put_object(self.bucket, name, io.BytesIO(data), len(data), part_size=PART_BYTES)
        return self.uri(key)

    def put_file(self, key: str, path: Path) -> str:
        """Uploads a file, in parts where it is large."""
        name = self._name(key)
        with explained(self.uri(key), self._settings):
            self._client.fput_object(self.bucket, name, str(path), part_size=PART_BYTES)
        return self.uri(key)

    def read(self, uri: str, start: int = 0, length: int | None = None) -> bytes:
        """Reads a range with one request."""
        if start < 0 or (length is not None and length < 0):
            raise ValueError(f"not a range: start {start}, length {length}")
        if length == 0:
            self.size(uri)  # a missing object is an error here as well
            return b""
        name = self._name_of_uri(uri)

        def get() -> bytes:
            try:
                # The client takes length 0 for "to the end".
                response = self._client.get_object(self.bucket, name, offset=start, length=length or 0)
            except S3Error as error:
                if error.code == "InvalidRange":
                    return b""  # the range begins behind the end
                raise
            try:
                return bytes(response.read())
            finally:
                response.close()
                response.release_conn()

        with explained(uri, self._settings):
            return again(get, self._settings, f"S3 GET {uri}")

    def size(self, uri: str) -> int:
        """Number of bytes."""
        name = self._name_of_uri(uri)
        with explained(uri, self._settings):
            return int(self._client.stat_object(self.bucket, name).size or 0)

    def exists(self, uri: str) -> bool:
        """Whether there is such an object."""
        name = self._name_of_uri(uri)
        with explained(uri, self._settings):
            try:
                self._client.stat_object(self.bucket, name)
            except S3Error as error:
                if error.code in NOT_FOUND:
                    return False
                raise
        return True

    def list(self, prefix: str) -> Iterator[str]:
        """URIs below a prefix, sorted."""
        if prefix:
            start = self._name(prefix) + ("/" if prefix.endswith("/") else "")
        else:
            start = f"{self._prefix}/" if self._prefix else ""
        with explained(f"s3://{self.bucket}/{start}", self._settings):
            found = self._client.list_objects(self.bucket, prefix=start, recursive=True)
            names = sorted(each.object_name or "" for each in found)
        yield from (f"s3://{self.bucket}/{name}" for name in names)

    def fetch(self, uri: str, path: Path) -> Path:
        """Downloads to a local file in pieces; after a fault only one piece is read again."""
        size = self.size(uri)

        def fill(part: Path) -> None:
            with part.open("wb") as stream:
                for start in range(0, size, PART_BYTES):
                    piece = self.read(uri, start, min(PART_BYTES, size - start))
                    stream.write(piece)
                if stream.tell() != size:
                    raise ZoetropeError(
                        f"{uri}: {stream.tell()} of {size} bytes were received", "was it replaced meanwhile? try again"
                    )

        publish(path, fill, size)
        return path

    def delete(self, uri: str) -> None:
        """Removes the object."""
        name = self._name_of_uri(uri)
        with explained(uri, self._settings):
            self._client.remove_object(self.bucket, name)

    def local_path(self, uri: str) -> Path | None:
        """None: objects are not on this disk."""
        self._name_of_uri(uri)
        return None

    def _name(self, key: str) -> str:
        """The object's name in the bucket."""
        inner = key.removesuffix("/")
        if not inner or any(piece in ("", ".", "..") for piece in inner.split("/")):
            raise ZoetropeError(
                f"key {key!r} leaves the store {self.root} or is empty", "use a relative key without '..'"
            )
        return f"{self._prefix}/{inner}" if self._prefix else inner

    def _name_of_uri(self, uri: str) -> str:
        if not uri.startswith(f"{self.root}/"):
            raise ZoetropeError(f"{uri} is outside the store {self.root}", "give a URI of this store")
        return self._name(uri.removeprefix(f"{self.root}/"))
