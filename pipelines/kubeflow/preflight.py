"""Looks before a submission creates anything."""

from __future__ import annotations

from collections.abc import Sequence

from zoetrope.infra.doctor import CHECKS, CheckContext, examine
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.kubeflow import KubeflowSettings
from zoetrope.infra.ledger.budget import maximum_cost, money
from zoetrope.infra.prices import choose_price_sheet
from zoetrope.infra.settings import Settings
from zoetrope.pipelines.definition.resolved import Resolved
from zoetrope.pipelines.definition.step_table import PIPELINES
from zoetrope.pipelines.kubeflow.demands import demands
from zoetrope.pipelines.kubeflow.kubernetes import api, has_kubeconfig


def preflight(
    settings: KubeflowSettings, resolved: Resolved, pipeline: str, images: Sequence[str], service_account: str
) -> list[str]:
    """What could not be looked at from here, for a note.

    Without a kubeconfig only the images are looked for: Kubeflow's own API is enough to submit.

    Raises:
        ZoetropeError: the first problem that would make the run fail.
    """
    _check_budget(resolved, pipeline)
    there = has_kubeconfig()
    context = CheckContext(
        namespace=settings.namespace,
        api=api(settings.namespace) if there else ZoetropeError("no kubeconfig", "set KUBECONFIG"),
        kubeflow=settings,
        images={image.rpartition("/")[2].partition("@")[0]: image for image in images},
        demands=demands(resolved, pipeline),
        service_account=service_account,
    )
    notes = [] if there else [f"the namespace {settings.namespace} (there is no kubeconfig)"]
    for finding in examine(context, before_submit=True):
        if not there and CHECKS[finding.check].kubernetes:
            continue
        if finding.status == "problem":
            raise ZoetropeError(f"{finding.check}: {finding.detail}", finding.hint)
        if finding.status == "unknown":
            notes.append(f"{finding.check}: {finding.detail}")
    return notes


def _check_budget(resolved: Resolved, pipeline: str) -> None:
    """A job is made only where the budget covers it until its deadline, so one that can never be made is seen here."""
    recipe = resolved.recipe
    sheet = choose_price_sheet(recipe.prices or Settings().price_provider)
    for step, place in resolved.placements.items():
        if step in PIPELINES[pipeline] and (usd := maximum_cost(place, sheet)) > recipe.budget_usd:
            raise ZoetropeError(
                f"budget: {step} may cost up to {money(usd)} USD until its deadline, "
                f"the budget is {money(recipe.budget_usd)} USD",
                "raise budget_usd, shorten cluster.job_deadline, or ask for fewer resources",
            )
