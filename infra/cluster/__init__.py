"""Kubernetes: the client, what pods say of themselves, who clears up."""

from zoetrope.infra.cluster.api import Cluster
from zoetrope.infra.cluster.errors import AlreadyExistsError
from zoetrope.infra.cluster.streams import Stop, StreamBrokenError

__all__ = ["AlreadyExistsError", "Cluster", "Stop", "StreamBrokenError"]
