"""Kubernetes: the client, what pods say of themselves, who clears up."""

from zoetrope.infra.kubernetes.api import Cluster
from zoetrope.infra.kubernetes.errors import AlreadyExistsError
from zoetrope.infra.kubernetes.streams import Stop, StreamBrokenError

__all__ = ["AlreadyExistsError", "Cluster", "Stop", "StreamBrokenError"]
