"""A run is billed by one sheet: the one that was chosen when it was resolved, whatever sheets there are later."""

from pathlib import Path

import pytest

from zoetrope.infra.ledger import LedgerEntry
from zoetrope.infra.prices import choose_price_sheet
from zoetrope.infra.resources import Resources
from zoetrope.infra.runs import RunFiles, RunPlan, run_price_sheet, sheets_of
from zoetrope.infra.settings import Settings
from zoetrope.infra.store import Store, open_store

CHOSEN = "open-sora-2-paper-2025-03"
NOW = choose_price_sheet("local").name


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store")


def write_plan(store: Store, run: str, sheet: str) -> None:
    plan = RunPlan(run_id=run, pipeline="data", recipe="nano", recipe_digest="d", price_sheet=sheet)
    RunFiles(store, run).write_plan(plan)


def entry(run: str, sheet: str = "") -> LedgerEntry:
    return LedgerEntry(run, "curate", 1, Resources(cpu=1), 0.0, 1.0, "succeeded", price_sheet=sheet)


def test_a_run_that_begins_now_would_choose_another() -> None:
    assert NOW != CHOSEN


def test_on_a_cluster_the_plan_names_the_sheet(store: Store) -> None:
    settings = Settings(run_id="run-1", cluster=True, price_provider="local", price_sheet=NOW)
    write_plan(store, "run-1", CHOSEN)
    assert run_price_sheet(store, settings).name == CHOSEN


@pytest.mark.parametrize(("noted", "name"), [(CHOSEN, CHOSEN), ("", NOW)])
def test_on_one_machine_the_settings_of_the_processes_do(store: Store, noted: str, name: str) -> None:
    settings = Settings(run_id="run-1", cluster=False, price_provider="local", price_sheet=noted)
    assert run_price_sheet(store, settings).name == name


def test_a_ledger_of_many_runs_is_priced_run_by_run(store: Store) -> None:
    write_plan(store, "planned", CHOSEN)
    write_plan(store, "old", "")
    entries = [entry("noted"), entry("noted", CHOSEN), entry("planned"), entry("old"), entry("older")]
    sheets = {run: sheet.name for run, sheet in sheets_of(store, entries, "local").items()}
    assert sheets == {"noted": CHOSEN, "planned": CHOSEN, "old": NOW, "older": NOW}
