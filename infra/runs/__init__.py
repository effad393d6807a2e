"""What is known of a run on a cluster, in the store: its plan, what each step made, verdicts that stand."""

from zoetrope.infra.runs.files import RunFiles
from zoetrope.infra.runs.plan import RunPlan

__all__ = ["RunFiles", "RunPlan"]
