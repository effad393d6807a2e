"""The one price sheet of a run."""

from __future__ import annotations

from collections.abc import Iterable

from zoetrope.infra.ledger import LedgerEntry
from zoetrope.infra.prices import PriceSheet, choose_price_sheet, load_price_sheet
from zoetrope.infra.runs.files import RunFiles
from zoetrope.infra.settings import Settings
from zoetrope.infra.store import Store


def run_price_sheet(store: Store, settings: Settings) -> PriceSheet:
    """The sheet that the run of `settings` is billed by, as it was chosen when the run was resolved.

    On a cluster the run's plan names it, on one machine the settings of the run's processes do. Without either
    (`resolve` itself, plans of older runs) it is what a run that begins now would choose.
    """
    plan = RunFiles(store, settings.run_id).plan() if settings.cluster else None
    name = plan.price_sheet if plan is not None else settings.price_sheet
    return load_price_sheet(name) if name else choose_price_sheet(settings.price_provider)


def sheets_of(store: Store, entries: Iterable[LedgerEntry], provider: str) -> dict[str, PriceSheet]:
    """Run id -> the sheet that the run is billed by, for all runs of a ledger.

    Args:
        store: where the ledger and the plans of a cluster's runs lie.
        entries: of the ledger; a step's own allocation names the sheet.
        provider: whose newest sheet prices runs that name none (they are older than that).
    """
    names: dict[str, str] = {}
    for entry in entries:
        names[entry.run_id] = names.get(entry.run_id) or entry.price_sheet
    sheets = {}
    for run_id, noted in names.items():
        plan = None if noted else RunFiles(store, run_id).plan()
        name = noted or (plan.price_sheet if plan is not None else "")
        sheets[run_id] = load_price_sheet(name) if name else choose_price_sheet(provider)
    return sheets
