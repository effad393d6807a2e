"""`zoetrope run|submit --explain`: what would be computed, why, and what that cost the last time."""

from __future__ import annotations

import json
from collections.abc import Mapping

import typer

from zoetrope.infra.prices import choose_price_sheet
from zoetrope.infra.settings import Settings
from zoetrope.infra.store import Store
from zoetrope.pipelines.cli.common import output, show
from zoetrope.pipelines.definition.explain import Explanation, explain
from zoetrope.pipelines.definition.forecast import forecast
from zoetrope.pipelines.definition.resolve import resolve_jobs
from zoetrope.pipelines.definition.step_table import PIPELINES
from zoetrope.pipelines.recipe.recipe import Recipe

SHOWN_REASONS = 4
"""Reasons that the table names for a step; --json has all of them."""


def print_explanation(
    recipe: Recipe, pipeline: str, given: Mapping[str, str], store: Store, *, fresh: bool, as_json: bool
) -> None:
    """Prints a row a step and what the steps that miss cost the last time.

    Args:
        recipe: resolved.
        pipeline: name of the pipeline.
        given: step -> reference of a product that the run starts from.
        store: where results lie.
        fresh: whether the run would compute everything anew.
        as_json: prints JSON with every reason.
    """
    jobs = {name: job for name, job in resolve_jobs(recipe, Settings()).items() if name in PIPELINES[pipeline]}
    found = explain(
        forecast(jobs, store, given, fresh=fresh),
        store,
        choose_price_sheet(recipe.prices or Settings().price_provider),
        fresh=fresh,
    )
    if as_json:
        typer.echo(json.dumps([each.as_dict() for each in found], indent=1))
        return
    show([_row(each) for each in found], False, right=("seconds", "USD"))
    missing = [each for each in found if each.status == "MISS"]
    seconds = sum(each.seconds or 0.0 for each in missing)
    usd = sum(float(each.usd or 0) for each in missing)
    unknown = sum(each.seconds is None for each in missing)
    more = f", and {unknown} steps of which nothing is known" if unknown else ""
    output.print(f"{len(missing)} steps to compute: {seconds:.0f} s and {usd:.6f} USD the last time{more}")


def _row(each: Explanation) -> dict[str, str]:
    reasons = "; ".join(each.reasons[:SHOWN_REASONS])
    if len(each.reasons) > SHOWN_REASONS:
        reasons += f"; and {len(each.reasons) - SHOWN_REASONS} more (--json)"
    return {
        "step": each.step,
        "": each.status,
        "run": each.run,
        "seconds": "" if each.seconds is None else f"{each.seconds:.1f}",
        "USD": "" if each.usd is None else f"{each.usd:.6f}",
        "why": reasons,
    }
