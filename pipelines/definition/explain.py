"""`--explain`: for each step whether it will be computed, why, and what that cost the last time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from zoetrope.infra.keys import KeyParts, StoredResult, differences, known_results
from zoetrope.infra.keys.results import problem
from zoetrope.infra.ledger import collect
from zoetrope.infra.prices import PriceSheet, cost
from zoetrope.infra.store import Store, get_json
from zoetrope.pipelines.definition.forecast import Forecast, Status


@dataclass(frozen=True)
class Explanation:
    """What will happen to one step.

    Attributes:
        step: its name.
        status: `HIT`, `MISS` or `RUNS`.
        run: the run that made the result (`HIT`), or the one whose key is nearest (`MISS`); empty where there is none.
        reasons: what differs from that run's key, a phrase each; empty for a `HIT`.
        seconds: how long the step took there; None where nobody knows.
        usd: what it cost there with all attempts, at the price sheet given; None where nobody knows.
    """

    step: str
    status: Status
    run: str = ""
    reasons: tuple[str, ...] = ()
    seconds: float | None = None
    usd: Decimal | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        usd = None if self.usd is None else str(self.usd)
        return {
            "step": self.step,
            "status": self.status,
            "run": self.run,
            "reasons": list(self.reasons),
            "seconds": self.seconds,
            "usd": usd,
        }


def explain(
    found: Mapping[str, Forecast], store: Store, sheet: PriceSheet, *, fresh: bool = False
) -> list[Explanation]:
    """One explanation a step, in the order of the run.

    Args:
        found: what the run will find.
        store: where results lie.
        sheet: what redoing is priced with.
        fresh: whether the run was asked to compute everything anew.
    """
    return [_explained(each, store, sheet, fresh) for each in found.values()]


def _explained(each: Forecast, store: Store, sheet: PriceSheet, fresh: bool) -> Explanation:
    if each.parts is None:
        return Explanation(each.step, "RUNS", reasons=("always runs: it files what this run did",))
    if each.known is not None:
        return Explanation(each.step, "HIT", each.known.run_id)
    nearest = _nearest(each, store)
    if nearest is None:
        return Explanation(each.step, "MISS", reasons=("never computed in this store",))
    anew = tuple(f"input {name}: made anew by {step}" for name, step in (each.made_anew or {}).items())
    reasons = (*_own_differences(each, nearest.parts), *anew)
    if not reasons:
        reasons = ("--fresh",) if fresh else (f"its result is damaged: {problem(store, nearest)}",)
    seconds, usd = _price(nearest, store, sheet)
    return Explanation(each.step, "MISS", nearest.run_id, reasons, seconds, usd)


def _nearest(each: Forecast, store: Store) -> StoredResult | None:
    """The known result with the fewest differences; of equals the one with the smallest key, so that it is always
    the same."""
    known = list(known_results(store, each.step))
    return min(known, key=lambda other: (len(_own_differences(each, other.parts)), other.key), default=None)


def _own_differences(each: Forecast, before: KeyParts) -> tuple[str, ...]:
    """Without inputs of which nobody knows yet what they will be."""
    assert each.parts is not None
    anew = set(each.made_anew or {})
    inputs = {name: digest for name, digest in before.inputs.items() if name not in anew}
    return tuple(differences(each.parts, before.model_copy(update={"inputs": inputs})))


def _price(known: StoredResult, store: Store, sheet: PriceSheet) -> tuple[float | None, Decimal | None]:
    entries = [entry for entry in collect(store, known.run_id) if entry.step == known.step]
    usd = sum((cost(entry, sheet) for entry in entries), Decimal(0)) if entries else None
    return float(get_json(store, known.record)["seconds"]), usd
