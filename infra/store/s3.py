"""A store in an S3 bucket (or anything that speaks S3), with the minio client."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from minio.commonconfig import REPLACE, CopySource
from minio.datatypes import Object
from minio.error import S3Error

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.store.base import StoredObject, checked_key, is_absolute, moved_key
from zoetrope.infra.store.local import publish
from zoetrope.infra.store.s3_client import NOT_FOUND, S3Settings, again, connect, explained

PART_BYTES = 64 << 20  # S3 takes at most 10,000 parts: files up to 640 GiB
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


def open_root(root: str) -> S3Store:
    """The store of `s3://bucket/prefix`, with settings from the environment."""
    return S3Store(root)


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

    def key(self, location: str) -> str:
        """The key of a location."""
        name = self._name_of(location)
        return name.removeprefix(f"{self._prefix}/") if self._prefix else name

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

    def read(self, location: str, start: int = 0, length: int | None = None) -> bytes:
        """Reads a range with one request."""
        if start < 0 or (length is not None and length < 0):
            raise ValueError(f"not a range: start {start}, length {length}")
        if length == 0:
            self.size(location)  # a missing object is an error here as well
            return b""
        name = self._name_of(location)
        uri = f"s3://{self.bucket}/{name}"

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

    def size(self, location: str) -> int:
        """Number of bytes."""
        name = self._name_of(location)
        with explained(f"s3://{self.bucket}/{name}", self._settings):
            return int(self._client.stat_object(self.bucket, name).size or 0)

    def stat(self, location: str) -> StoredObject | None:
        """Length and time of the object."""
        name = self._name_of(location)
        with explained(f"s3://{self.bucket}/{name}", self._settings):
            try:
                return self._described(self._client.stat_object(self.bucket, name))
            except S3Error as error:
                if error.code in NOT_FOUND:
                    return None
                raise

    def exists(self, location: str) -> bool:
        """Whether there is such an object."""
        return self.stat(location) is not None

    def list(self, prefix: str) -> Iterator[str]:
        """URIs below a prefix, sorted."""
        names = sorted(found.object_name or "" for found in self._below(prefix))
        yield from (f"s3://{self.bucket}/{name}" for name in names)

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        """All objects below a prefix; the client asks for one page after the other."""
        for found in self._below(prefix):
            yield self._described(found)

    def fetch(self, location: str, path: Path) -> Path:
        """Downloads to a local file in pieces; after a fault only one piece is read again."""
        size, uri = self.size(location), f"s3://{self.bucket}/{self._name_of(location)}"

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

    def touch(self, location: str) -> bool:
        """Copies the object onto itself, on the server."""
        name = self._name_of(location)
        with explained(f"s3://{self.bucket}/{name}", self._settings):
            try:
                self._client.copy_object(
                    self.bucket,
                    name,
                    CopySource(self.bucket, name),
                    # S3 copies an object onto itself only where its metadata change.
                    metadata={"touched": str(time.time())},
                    metadata_directive=REPLACE,
                )
            except S3Error as error:
                if error.code in NOT_FOUND:
                    return False
                raise
        return True

    def delete(self, location: str) -> None:
        """Removes the object."""
        name = self._name_of(location)
        with explained(f"s3://{self.bucket}/{name}", self._settings):
            self._client.remove_object(self.bucket, name)

    def local_path(self, location: str) -> Path | None:
        """None: objects are not on this disk."""
        self._name_of(location)
        return None

    def dvc_options(self) -> dict[str, str]:
        """Where the server is, unless it is Amazon's; credentials stay in the environment."""
        amazon = S3Settings.model_fields["endpoint"].default
        return {} if self._settings.endpoint == amazon else {"endpointurl": self._settings.endpoint}

    def _below(self, prefix: str) -> Iterator[Object]:
        if prefix:
            start = self._name(prefix) + ("/" if prefix.endswith("/") else "")
        else:
            start = f"{self._prefix}/" if self._prefix else ""
        with explained(f"s3://{self.bucket}/{start}", self._settings):
            yield from self._client.list_objects(self.bucket, prefix=start, recursive=True)

    def _described(self, found: Object) -> StoredObject:
        modified = found.last_modified.timestamp() if found.last_modified else time.time()
        name = found.object_name or ""
        key = name.removeprefix(f"{self._prefix}/") if self._prefix else name
        return StoredObject(key, int(found.size or 0), modified)

    def _name(self, key: str) -> str:
        """The object's name in the bucket."""
        inner = checked_key(key, self.root)
        return f"{self._prefix}/{inner}" if self._prefix else inner

    def _name_of(self, location: str) -> str:
        if not is_absolute(location):
            return self._name(location)
        if location.startswith(f"{self.root}/"):
            return self._name(location.removeprefix(f"{self.root}/"))
        return self._name(moved_key(location, self.root))
