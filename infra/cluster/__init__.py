"""The Kubernetes API, as far as jobs need it."""

from zoetrope.infra.cluster.api import Cluster
from zoetrope.infra.cluster.errors import AlreadyExistsError
from zoetrope.infra.cluster.streams import Stop, StreamBrokenError

__all__ = ["AlreadyExistsError", "Cluster", "Stop", "StreamBrokenError"]
