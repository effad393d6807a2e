"""Price sheets and cost."""

from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

import zoetrope.infra.prices as prices
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.ledger import LedgerEntry
from zoetrope.infra.prices import cost, list_price_sheets, load_price_sheet
from zoetrope.infra.resources import Resources


def entry(seconds, **resources):
    return LedgerEntry("run", "stage_1", 1, Resources(**resources), 0.0, seconds, "succeeded")


def test_the_folder_and_the_readme_table_agree():
    readme = (Path(prices.__file__).parent / "README.md").read_text()
    table = [line.split("`")[1] for line in readme.splitlines() if line.startswith("| `")]
    assert sorted(table) == list_price_sheets()


@pytest.mark.parametrize("name", list_price_sheets())
def test_every_sheet_says_what_when_and_from_where(name):
    sheet = load_price_sheet(name)
    assert sheet.name == f"{sheet.provider}-{sheet.valid_from:%Y-%m}"
    assert sheet.valid_from <= sheet.retrieved or sheet.provider == "local"
    assert len(sheet.source) > 40
    assert sheet.cpu_core_hour + sheet.memory_gb_hour + sum(sheet.gpu_hour.values()) > 0


def test_the_newest_valid_sheet_is_taken():
    assert load_price_sheet(on=date(2026, 12, 1)).name == "local-2026-11"
    assert load_price_sheet(on=date(2026, 10, 31)).name == "open-sora-2-paper-2025-03"
    with pytest.raises(ZoetropeError, match="2001-01-01"):
        load_price_sheet(on=date(2001, 1, 1))


def test_an_unknown_sheet_is_answered_with_what_exists():
    with pytest.raises(ZoetropeError, match="moon-2026-01") as caught:
        load_price_sheet("moon-2026-01")
    assert "local-2026-11" in caught.value.hint


def test_the_paper_total_is_reproduced():
    # Open-Sora 2.0: 4160 H200 GPU-days at 2.00 USD an hour are 199,680 USD.
    sheet = load_price_sheet("open-sora-2-paper-2025-03")
    gpus = 4160
    assert cost(entry(86400.0, cpu=8, memory_gb=64, gpus=gpus, gpu_kind="h200"), sheet) == Decimal(199680)


def test_cost_is_resources_times_time():
    sheet = load_price_sheet("local-2026-11")
    # Half an hour of 2 cores at 0.003 and 4 GB at 0.00012 an hour.
    assert cost(entry(1800.0, cpu=2, memory_gb=4), sheet) == Decimal("0.00324")
    assert cost(entry(0.0, cpu=2), sheet) == 0


def test_a_gpu_without_a_price_is_an_error_not_free():
    with pytest.raises(ZoetropeError, match=r"b300.*stage_1"):
        cost(entry(1.0, gpus=1, gpu_kind="b300"), load_price_sheet("local-2026-11"))


def test_a_damaged_sheet_is_named(tmp_path):
    (tmp_path / "moon-2026-01.toml").write_text('provider = "moon"\ncurrency = "dollars"\n')
    with pytest.raises(ZoetropeError, match=r"moon-2026-01\.toml"):
        load_price_sheet("moon-2026-01", directory=tmp_path)
