"""Price sheets (one immutable TOML file each, `PROVIDER-YYYY-MM.toml`) and cost."""

from zoetrope.infra.prices.sheet import PriceSheet, choose_price_sheet, cost, list_price_sheets, load_price_sheet

__all__ = ["PriceSheet", "choose_price_sheet", "cost", "list_price_sheets", "load_price_sheet"]
