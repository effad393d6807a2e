"""Registers a checkpoint and makes it champion when every check passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from zoetrope.components.promote.checks import (
    SCORE_TAG,
    Check,
    check_budget,
    check_champion,
    check_gates,
    check_lineage,
    check_requested,
    check_rights,
    check_scores,
)
from zoetrope.components.promote.config import PromoteConfig
from zoetrope.components.promote.page import promotion_page
from zoetrope.infra.context import StepContext, StepResult
from zoetrope.infra.prices import load_price_sheet
from zoetrope.infra.references import Reference
from zoetrope.infra.settings import Settings
from zoetrope.infra.store import get_json, put_json
from zoetrope.infra.tracking import ModelRegistry, ModelVersion, Tracker

CANDIDATE = "candidate"
CHAMPION = "champion"
PREVIOUS_TAG = "previous"
REASON_TAG = "reason"
CURRENCY = "USD"


def promote(
    config: PromoteConfig, checkpoint: str, scores: str, records: Sequence[str], context: StepContext
) -> StepResult:
    """Registers `checkpoint` and moves the alias `champion` to it when every check passes.

    The version is `candidate` until then, and stays it, with the reason as a tag, when a check fails: that is a
    result and no error. The same checkpoint again is the same version.

    Args:
        config: when to promote.
        checkpoint: reference to a `zoetrope.checkpoint.v1` product.
        scores: reference to a `zoetrope.scores.v1` product of the same checkpoint.
        records: references to the records of the run's steps (`zoetrope.record.v1`).
        context: the outside world.

    Returns:
        Product `zoetrope.promotion.v1`.

    Raises:
        ZoetropeError: an input is not there or damaged, or the model registry does not answer.
    """
    manifest = get_json(context.store, checkpoint)
    dataset = get_json(context.store, manifest["dataset"])
    scored = get_json(context.store, scores)
    videos = get_json(context.store, scored["videos"])
    made_by = [get_json(context.store, record) for record in records]
    spent, unpriced = total_cost(made_by)
    registry, run = _registry(config, context)
    champion = registry.by_alias(config.model, CHAMPION)
    version = registry.register(
        config.model,
        Reference.parse(checkpoint),
        run,
        tags=_facts(manifest, dataset, scored, spent, context),
        metrics=_numbers(scored),
    )
    checks = [
        check_scores(scored),
        check_lineage(checkpoint, videos["checkpoint"]),
        check_champion(scored, champion if champion != version else None, config.tolerance),
        check_gates(made_by, dataset),
        check_budget(spent, unpriced, config.budget_usd),
        check_rights(dataset.get("rights", ""), dataset.get("licence", ""), config),
        check_requested(config),
    ]
    previous = _decide(registry, version, champion, checks)
    return _result(context, registry, version, checks, previous, spent)


def total_cost(records: Sequence[Mapping[str, Any]]) -> tuple[Decimal, list[str]]:
    """What the steps cost together in USD, and the steps that have no price in USD."""
    spent, unpriced = Decimal(0), []
    for record in records:
        sheet = record.get("price_sheet", "")
        if record.get("cost_usd") and sheet and load_price_sheet(sheet).currency == CURRENCY:
            spent += Decimal(record["cost_usd"])
        else:
            unpriced.append(str(record["step"]))
    return spent, unpriced


def _registry(config: PromoteConfig, context: StepContext) -> tuple[ModelRegistry, str]:
    """The registry, and the MLflow run that the version belongs to (empty when none is known)."""
    settings = Settings()
    uri = config.registry_uri or settings.tracking_uri
    registry = ModelRegistry(uri, settings.experiment)
    if config.registry_uri not in ("", settings.tracking_uri):
        return registry, ""  # the run lives in another MLflow
    tracker = Tracker(uri, settings.experiment)
    return registry, settings.mlflow_run_id or settings.parent_run_id or tracker.find_run(context.run_id) or ""


def _facts(
    manifest: Mapping[str, Any],
    dataset: Mapping[str, Any],
    scored: Mapping[str, Any],
    spent: Decimal,
    context: StepContext,
) -> dict[str, str]:
    """What the version is tagged with, so that the registry alone answers where a model comes from."""
    facts = {
        "run_id": context.run_id,
        "stage": str(manifest["stage"]),
        "dataset": str(manifest["dataset"]),
        "dataset_digest": str(dataset["digest"]),
        "rights": str(dataset.get("rights", "")),
        "licence": str(dataset.get("licence", "")),
        "cost_usd": f"{spent:f}",
        "headline": str(scored["headline"]),
    }
    return facts | {SCORE_TAG + name: repr(value) for name, value in _numbers(scored).items()}


def _numbers(scored: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in scored["scores"].items() if isinstance(value, (int, float))}


def _decide(
    registry: ModelRegistry, version: ModelVersion, champion: ModelVersion | None, checks: Sequence[Check]
) -> int | None:
    """Sets aliases and tags, and returns the version of the champion before this one, if there was one."""
    name, number = version.name, version.version
    is_champion = champion is not None and champion.version == number
    known = version.tags.get(PREVIOUS_TAG, "") if is_champion else str(champion.version) if champion else ""
    failed = [check for check in checks if not check.passed]
    tags = {f"gate.{check.name}": f"{'passed' if check.passed else 'failed'}: {check.detail}" for check in checks}
    reason = "; ".join(f"{check.name}: {check.detail}" for check in failed)
    registry.set_tags(name, number, tags | {REASON_TAG: reason or "all checks passed"})
    if failed:
        # A champion whose data turned out to be red stays in service until a person takes it out.
        if not is_champion:
            registry.set_alias(name, CANDIDATE, number)
    else:
        registry.set_tags(name, number, {PREVIOUS_TAG: known})
        registry.set_alias(name, CHAMPION, number)
        if CANDIDATE in version.aliases:
            registry.delete_alias(name, CANDIDATE)
    return int(known) if known else None


def _result(
    context: StepContext,
    registry: ModelRegistry,
    version: ModelVersion,
    checks: Sequence[Check],
    previous: int | None,
    spent: Decimal,
) -> StepResult:
    now = next(each for each in registry.versions(version.name) if each.version == version.version)
    failed = [check.name for check in checks if not check.passed]
    product = {
        "schema": "zoetrope.promotion.v1",
        "model": now.name,
        "version": now.version,
        "aliases": list(now.aliases),
        "promoted": not failed,
        "checks": [{"name": each.name, "passed": each.passed, "detail": each.detail} for each in checks],
        "checkpoint": str(now.checkpoint),
        "previous": previous,
    }
    outcome = f"stays candidate, failed: {', '.join(failed)}" if failed else f"is {CHAMPION}"
    return StepResult(
        product=put_json(context.store, product),
        key_figure=f"{now.name} version {now.version} {outcome}",
        metrics={"promoted": float(not failed), "total_cost_usd": float(spent)},
        parameters={"model": now.name, "version": now.version},
        page=promotion_page(now, checks, previous),
    )
