"""Price sheets and cost."""

import shutil
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

import zoetrope.infra.prices as prices
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.ledger import LedgerEntry
from zoetrope.infra.prices import choose_price_sheet, cost, list_price_sheets, load_price_sheet
from zoetrope.infra.resources import Resources
from zoetrope.infra.settings import Settings


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


@pytest.fixture
def sheets(tmp_path):
    """The product's sheets, a newer one of the machine of one's own, and those of a cloud."""
    for name in list_price_sheets():
        shutil.copy(Path(prices.__file__).parent / f"{name}.toml", tmp_path)
    local = (tmp_path / "local-2026-11.toml").read_text()
    for provider, day in (("local", "2026-12-01"), ("acme", "2026-11-01"), ("acme", "2026-12-31")):
        text = local.replace('"local"', f'"{provider}"').replace("2026-11-01", day).replace("= 0.003", "= 4")
        (tmp_path / f"{provider}-{day[:7]}.toml").write_text(text)
    return tmp_path


def test_the_newest_valid_sheet_of_one_provider_is_taken(sheets):
    def chosen(wanted, *day):
        return choose_price_sheet(wanted, date(*day), sheets).name

    assert chosen("local", 2026, 11, 30) == "local-2026-11"
    assert chosen("local", 2026, 12, 1) == "local-2026-12"
    assert chosen("acme", 2026, 12, 30) == "acme-2026-11"
    assert chosen("acme", 2026, 12, 31) == "acme-2026-12"
    assert chosen("open-sora-2-paper", 2030, 1, 1) == "open-sora-2-paper-2025-03"
    assert chosen("acme-2026-11", 2001, 1, 1) == "acme-2026-11"  # by name, whatever the day
    with pytest.raises(ZoetropeError, match=r"no sheet of local in .* is valid on 2026-10-31"):
        chosen("local", 2026, 10, 31)


def test_a_clouds_sheet_beside_the_others_does_not_price_a_laptops_run(sheets):
    (sheets / "local-2026-12.toml").unlink()
    laptop = Settings().price_provider
    held = entry(3600.0, cpu=4, memory_gb=0)
    assert cost(held, choose_price_sheet(laptop, date(2026, 12, 31), sheets)) == Decimal("0.012")
    assert cost(held, choose_price_sheet("acme", date(2026, 12, 31), sheets)) == Decimal(16)


def test_a_provider_without_sheets_is_answered_with_what_exists(sheets):
    with pytest.raises(ZoetropeError, match="no sheet and no provider called 'moon'") as caught:
        choose_price_sheet("moon", directory=sheets)
    assert caught.value.hint.startswith("providers: acme, local, open-sora-2-paper; sheets: acme-2026-11, ")


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
