"""Looks before a submission creates anything."""

from __future__ import annotations

from collections.abc import Sequence

from zoetrope.infra.doctor import CHECKS, Ground, examine
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.kubeflow import KubeflowSettings
from zoetrope.pipelines.cluster.demands import demands
from zoetrope.pipelines.cluster.kubernetes import api, has_kubeconfig
from zoetrope.pipelines.recipe import Recipe


def preflight(
    settings: KubeflowSettings, recipe: Recipe, pipeline: str, images: Sequence[str], service_account: str
) -> list[str]:
    """What could not be looked at from here, for a note.

    Without a kubeconfig only the images are looked for: Kubeflow's own API is enough to submit.

    Raises:
        ZoetropeError: the first problem that would make the run fail.
    """
    there = has_kubeconfig()
    ground = Ground(
        namespace=settings.namespace,
        api=api(settings.namespace) if there else ZoetropeError("no kubeconfig", "set KUBECONFIG"),
        kubeflow=settings,
        images={image.rpartition("/")[2].partition("@")[0]: image for image in images},
        demands=demands(recipe, pipeline),
        service_account=service_account,
    )
    notes = [] if there else [f"the namespace {settings.namespace} (there is no kubeconfig)"]
    for finding in examine(ground, before_submit=True):
        if not there and CHECKS[finding.check].kubernetes:
            continue
        if finding.status == "problem":
            raise ZoetropeError(f"{finding.check}: {finding.detail}", finding.hint)
        if finding.status == "unknown":
            notes.append(f"{finding.check}: {finding.detail}")
    return notes
