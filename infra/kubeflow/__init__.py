"""Where Kubeflow Pipelines is, who we are there, and whether it is there at all; no KFP library is needed for that."""

from zoetrope.infra.kubeflow.health import Health, health
from zoetrope.infra.kubeflow.settings import KubeflowSettings

__all__ = ["Health", "KubeflowSettings", "health"]
