"""Dated price sheets, and what an allocation costs by them."""

from __future__ import annotations

import tomllib
from datetime import date
from decimal import Decimal
from pathlib import Path

from pydantic import Field, ValidationError

from zoetrope.infra.config import StrictModel
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.resources import Allocation

SHEETS = Path(__file__).parent
SECONDS_PER_HOUR = 3600
# A billionth of the currency: small enough for one second on a laptop, short enough to read.
RESOLUTION = Decimal("1E-9")


class PriceSheet(StrictModel):
    """What one provider asked on one date, per hour. A sheet is never changed: a new price is a new file.

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
        gpu_hour: price of one GPU for an hour by kind, with all that comes with it.
    """

    name: str
    provider: str = Field(min_length=1)
    region: str = Field(min_length=1)
    currency: str = Field(pattern="^[A-Z]{3}$")
    valid_from: date
    retrieved: date
    source: str = Field(min_length=10)
    cpu_core_hour: Decimal = Field(ge=0)
    memory_gb_hour: Decimal = Field(ge=0)
    gpu_hour: dict[str, Decimal] = Field(default_factory=dict)


def list_price_sheets(directory: Path = SHEETS) -> list[str]:
    """Names of all sheets, sorted."""
    return sorted(path.stem for path in directory.glob("*.toml"))


def load_price_sheet(name: str, directory: Path = SHEETS) -> PriceSheet:
    """The sheet of exactly this name: what a run was resolved with.

    Raises:
        ZoetropeError: no such sheet, or the file is not a price sheet.
    """
    names = list_price_sheets(directory)
    if name not in names:
        raise ZoetropeError(f"no price sheet {name!r} in {directory}", f"choose one of: {', '.join(names)}")
    return _read(directory / f"{name}.toml")


def choose_price_sheet(wanted: str, on: date | None = None, directory: Path = SHEETS) -> PriceSheet:
    """The sheet that a new run is billed by; its name is written down with the run and never chosen again.

    Args:
        wanted: name of a sheet, or of a provider, of whose sheets the newest is taken that is valid on `on`.
        on: a day; today when None.
        directory: where the sheets lie.

    Raises:
        ZoetropeError: no such sheet or provider, none of its sheets is valid yet, or a file is not a price sheet.
    """
    names = list_price_sheets(directory)
    if wanted in names:
        return load_price_sheet(wanted, directory)
    sheets = [load_price_sheet(each, directory) for each in names]
    offered = [sheet for sheet in sheets if sheet.provider == wanted]
    if not offered:
        providers = sorted({sheet.provider for sheet in sheets})
        raise ZoetropeError(
            f"prices: there is no sheet and no provider called {wanted!r} in {directory}",
            f"providers: {', '.join(providers)}; sheets: {', '.join(names)}",
        )
    day = on or date.today()
    valid = [sheet for sheet in offered if sheet.valid_from <= day]
    if not valid:
        raise ZoetropeError(
            f"prices: no sheet of {wanted} in {directory} is valid on {day}", "name one, or check this machine's date"
        )
    return max(valid, key=lambda sheet: (sheet.valid_from, sheet.name))


def cost(entry: Allocation, sheet: PriceSheet) -> Decimal:
    """What the attempt costs in the sheet's currency, to a billionth.

    Raises:
        ZoetropeError: the attempt held a kind of GPU that the sheet does not price.
    """
    held = entry.resources
    per_hour = Decimal(str(held.cpu)) * sheet.cpu_core_hour + Decimal(str(held.memory_gb)) * sheet.memory_gb_hour
    if held.gpus:
        if held.gpu_kind not in sheet.gpu_hour:
            raise ZoetropeError(
                f"{sheet.name}: no price for GPU {held.gpu_kind!r} (step {entry.step}, run {entry.run_id})",
                f"it prices: {', '.join(sorted(sheet.gpu_hour)) or 'no GPU'}; choose another sheet",
            )
        per_hour += held.gpus * sheet.gpu_hour[held.gpu_kind]
    seconds = Decimal(str(round(entry.seconds, 6)))
    return (per_hour * seconds / SECONDS_PER_HOUR).quantize(RESOLUTION)


def _read(path: Path) -> PriceSheet:
    try:
        # Prices are read as decimals: 0.1 in the file is 0.1 in the bill.
        return PriceSheet.model_validate({"name": path.stem, **tomllib.loads(path.read_text(), parse_float=Decimal)})
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise ZoetropeError(f"{path}: not a price sheet: {error}", "compare it with the sheets beside it") from error
