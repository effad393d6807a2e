"""Launchers: a job is one TorchX `AppDef`, wherever it runs."""

from zoetrope.infra.launch.local import run_local
from zoetrope.infra.launch.run import run_app
from zoetrope.infra.launch.trainjob.runner import JobReport

__all__ = ["JobReport", "run_app", "run_local"]
