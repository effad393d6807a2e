"""MLflow behind two small classes; mlflow itself is imported when they are used."""

from zoetrope.infra.tracking.model_registry import ModelRegistry, ModelVersion
from zoetrope.infra.tracking.tracker import Tracker, local_tracking_uri

__all__ = ["ModelRegistry", "ModelVersion", "Tracker", "local_tracking_uri"]
