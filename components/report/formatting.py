"""Numbers as people read them."""

from __future__ import annotations

import math
from decimal import Decimal


def money(value: Decimal | float | None) -> str:
    """US dollars with as many digits as the amount needs, e.g. `$0.0042`, `$12.30`."""
    if value is None:
        return "not known"
    amount = float(value)
    if amount == 0:
        return "$0"
    if abs(amount) >= 0.1:
        return f"${amount:,.2f}"
    # Two significant digits for small amounts: a laptop's minute costs a fraction of a cent.
    digits = min(9, 1 - math.floor(math.log10(abs(amount))))
    return f"${amount:.{digits}f}"


def duration(seconds: float | None) -> str:
    """E.g. `4.2 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds is None:
        return "not known"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def size(count: float | None) -> str:
    """Bytes in decimal units, e.g. `1.3 GB`."""
    if count is None:
        return ""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(value) < 1000 or unit == "TB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError("unreachable")


def number(value: float | None) -> str:
    """A number with at most four significant digits; whole numbers in full."""
    if value is None:
        return ""
    if not math.isfinite(value):
        return str(value)
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.4g}" if 1e-3 <= abs(value) < 1e4 else (f"{value:.2e}" if abs(value) < 1 else f"{value:,.0f}")


def percent(value: float | None) -> str:
    """A share as whole percent."""
    return "" if value is None else f"{100 * value:.0f} %"


def p_value(value: float | None) -> str:
    """A p-value; tiny ones as a bound."""
    if value is None:
        return ""
    return "< 0.0001" if value < 1e-4 else f"{value:.3f}" if value >= 1e-3 else f"{value:.4f}"
