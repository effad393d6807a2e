"""`zoetrope cost`: money derived from the ledger."""

from __future__ import annotations

from typing import Annotated

import typer

from zoetrope.pipelines.cli.common import DEFAULT_STORE, JsonOption, StoreOption, show, state_store

app = typer.Typer(help="What runs cost.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """What runs cost."""


@app.command("report")
def report(
    run: Annotated[str, typer.Argument(help="run id; all runs when left out")] = "",
    prices: Annotated[str, typer.Option(help="name of a price sheet; the newest valid one when left out")] = "",
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Show every allocation, failed and killed attempts included, and what it cost.

    Example: zoetrope cost report --prices open-sora-2-paper-2025-03
    """
    from zoetrope.infra.ledger import collect
    from zoetrope.infra.prices import cost, load_price_sheet

    sheet = load_price_sheet(prices)
    rows = [
        {
            "run": entry.run_id,
            "step": entry.step,
            "attempt": entry.attempt,
            "outcome": entry.outcome,
            "cpu": entry.resources.cpu,
            "memory_gb": entry.resources.memory_gb,
            "gpus": entry.resources.gpus,
            "seconds": f"{entry.seconds:.1f}",
            "USD": f"{cost(entry, sheet):.6f}",
        }
        for entry in collect(state_store(store), run or None)
    ]
    show(rows, as_json, title=f"price sheet {sheet.name}", right=("seconds", "USD"))
