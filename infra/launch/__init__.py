"""Launchers: a job is one TorchX `AppDef`, wherever it runs."""

from zoetrope.infra.launch.app import JobReport, run_app
from zoetrope.infra.launch.local import run_local

__all__ = ["JobReport", "run_app", "run_local"]
