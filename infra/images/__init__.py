"""The images of the cluster: how they are built, and the lock that says which digest a name means."""

from zoetrope.infra.images.container_registry import digest_exists
from zoetrope.infra.images.lock import ImagesLock, read_images

__all__ = ["ImagesLock", "digest_exists", "read_images"]
