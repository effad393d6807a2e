"""Dated price sheets, and what an allocation costs by them."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from pydantic import Field

from zoetrope.infra.config import StrictModel
from zoetrope.infra.ledger import LedgerEntry


class PriceSheet(StrictModel):
    """What one provider asked on one date, per hour.

    Attributes:
        name: file name without `.toml`.
        provider: who asks the price.
        region: where.
        currency: ISO 4217 code.
        valid_from: first day on which it holds.
        retrieved: day on which it was read.
        source: where it was read, or the assumption it is computed from.
        cpu_core_hour: price of one core for an hour.
        memory_gb_hour: price of one GB of memory for an hour.
        gpu_hour: price of one GPU for an hour by kind.
    """

    name: str
    provider: str
    region: str
    currency: str = Field(pattern="^[A-Z]{3}$")
    valid_from: date
    retrieved: date
    source: str = Field(min_length=10)
    cpu_core_hour: Decimal = Field(ge=0)
    memory_gb_hour: Decimal = Field(ge=0)
    gpu_hour: dict[str, Decimal] = {}


def list_price_sheets() -> list[str]:
    """Names of all sheets, sorted."""
    raise NotImplementedError


def load_price_sheet(name: str = "", on: date | None = None) -> PriceSheet:
    """The named sheet, or with an empty name the newest that is valid on `on` (default: today)."""
    raise NotImplementedError


def cost(entry: LedgerEntry, sheet: PriceSheet) -> Decimal:
    """What the attempt costs in the sheet's currency, unrounded."""
    raise NotImplementedError
