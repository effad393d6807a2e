"""The checks that a checkpoint must pass to become champion, each a pure function of what it looks at."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from zoetrope.components.promote.config import PromoteConfig
from zoetrope.infra.references import Reference
from zoetrope.infra.tracking import ModelVersion

SCORE_TAG = "score."


@dataclass(frozen=True)
class Check:
    """One check: its name, whether it passed and the facts in a sentence."""

    name: str
    passed: bool
    detail: str


def check_requested(config: PromoteConfig) -> Check:
    """Somebody wants the checkpoint promoted."""
    return Check("requested", config.requested, "asked for" if config.requested else "not asked for by this run")


def check_scores(scores: Mapping[str, Any]) -> Check:
    """There is a headline score, and every score is a finite number."""
    values: Mapping[str, Any] = scores["scores"]
    headline = scores["headline"]
    bad = sorted(name for name, value in values.items() if not _finite(value))
    if bad:
        return Check("scores", False, f"not finite: {', '.join(bad)}")
    if headline not in values:
        return Check("scores", False, f"the headline score {headline!r} is missing")
    return Check("scores", True, f"{len(values)} scores, {headline} = {values[headline]:.4g}")


def check_lineage(checkpoint: str, scored: str) -> Check:
    """The scores were measured on videos of this checkpoint."""
    if Reference.parse(checkpoint).digest == Reference.parse(scored).digest:
        return Check("lineage", True, "the scores belong to this checkpoint")
    return Check("lineage", False, f"the scores belong to another checkpoint: {scored}")


def check_champion(scores: Mapping[str, Any], champion: ModelVersion | None, tolerance: float) -> Check:
    """The headline score is not worse than the champion's by more than `tolerance`."""
    if champion is None:
        return Check("champion", True, "there is no champion yet")
    headline = scores["headline"]
    kept = champion.tags.get(SCORE_TAG + headline)
    place = f"champion, version {champion.version}"
    if kept is None:
        return Check("champion", False, f"the {place}, has no score {headline!r} to compare with")
    value, other = scores["scores"].get(headline), float(kept)
    if not _finite(value):
        return Check("champion", False, f"no {headline} to compare with the {place}")
    higher = scores["higher_is_better"].get(headline, True)
    gain = (value - other) if higher else (other - value)
    passed = gain >= -tolerance
    relation = "not worse than" if passed else "worse than"
    return Check(
        "champion", passed, f"{headline} {value:.4g} is {relation} {other:.4g} ({place}; tolerance {tolerance:g})"
    )


def check_gates(records: Sequence[Mapping[str, Any]], dataset: Mapping[str, Any]) -> Check:
    """Every data gate of the run and of the dataset version is green, and there is at least one."""
    found = {gate["name"]: ("dataset", gate) for gate in dataset.get("gates", [])}
    found |= {gate["name"]: (record["step"], gate) for record in records for gate in record.get("gates", [])}
    gates = list(found.values())
    if not gates:
        return Check("data_gates", False, "no data gate ran")
    red = [f"{step}: {gate['name']}" for step, gate in gates if gate.get("success") is not True]
    if red:
        return Check("data_gates", False, f"red: {', '.join(red)}")
    return Check("data_gates", True, f"{len(gates)} of {len(gates)} green")


def check_budget(spent: Decimal, unpriced: Sequence[str], budget: Decimal | None) -> Check:
    """The run cost at most the budget, and every attempt has a price."""
    if unpriced:
        return Check("budget", False, f"no price for {', '.join(sorted(set(unpriced)))}")
    if budget is None:
        return Check("budget", True, f"{spent:f} USD spent, no budget set")
    relation = "within" if spent <= budget else "above"
    return Check("budget", spent <= budget, f"{spent:f} USD spent, {relation} the budget of {budget:f} USD")


def check_rights(rights: str, licence: str, config: PromoteConfig) -> Check:
    """The rights to the training data are known and not refused."""
    shown = f"rights {rights or '(none given)'!r}, licence {licence or '(none given)'!r}"
    refused = rights.strip().lower() in {each.lower() for each in config.refused_rights}
    return Check("rights", not refused, f"{shown}: {'refused' if refused else 'allowed'}")


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
