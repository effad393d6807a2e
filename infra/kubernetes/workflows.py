"""What Argo's Workflow of a run says about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RUN_OF_WORKFLOW = "pipeline/runid"
"""Label that KFP sets on the Workflow of a run, and on each pod of it."""
ENDED_PHASES = frozenset({"Succeeded", "Failed", "Error"})


def end_reason(workflow: Mapping[str, Any] | None) -> str:
    """Why a run is over, as text; empty while it is not. The one definition: for launchers and for the reaper.

    Kubeflow's Terminate sets the deadline to zero, seconds before the pods are signalled; Argo's own commands say it
    in `shutdown`.
    """
    if workflow is None:
        return "its run is gone"
    spec, phase = workflow.get("spec") or {}, (workflow.get("status") or {}).get("phase", "")
    if phase in ENDED_PHASES:
        return f"its run has ended ({phase})"
    if spec.get("activeDeadlineSeconds") == 0 or spec.get("shutdown"):
        return "its run was asked to terminate"
    return ""


def outline(workflow: Mapping[str, Any]) -> dict[str, Any]:
    """As much of a Workflow as says whose it is and whether it is over; a whole one may have a megabyte of nodes."""
    meta, spec, status = workflow["metadata"], workflow.get("spec") or {}, workflow.get("status") or {}
    return {
        "metadata": {"name": meta["name"], "labels": dict(meta.get("labels") or {})},
        "spec": {key: spec[key] for key in ("activeDeadlineSeconds", "shutdown") if key in spec},
        "status": {key: status[key] for key in ("phase", "finishedAt") if key in status},
    }
