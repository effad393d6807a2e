"""Launchers: a training job is one TorchX `AppDef`, wherever it runs."""

from zoetrope.infra.launch.local import run_local

__all__ = ["run_local"]
