"""`zoetrope cost`: money derived from the ledger."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from zoetrope.infra.settings import Settings
from zoetrope.pipelines.cli.common import DEFAULT_STORE, JsonOption, StoreOption, show, state_store
from zoetrope.pipelines.cli.reap import NamespaceOption

app = typer.Typer(help="What runs cost.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """What runs cost."""


@app.command("report")
def report(
    run: Annotated[str, typer.Argument(help="run id; all runs when left out")] = "",
    prices: Annotated[str, typer.Option(help="a price sheet, or a provider; each run's own sheet when left out")] = "",
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Show every allocation, failed and killed attempts included, and what it cost.

    On a cluster each pod is one line: the steps', KFP's own drivers and the training jobs'. The time a pod waited
    for a machine (`queued`) costs nothing.

    Example: zoetrope cost report --prices open-sora-2-paper-2025-03
    """
    from zoetrope.infra.ledger import collect
    from zoetrope.infra.prices import choose_price_sheet, cost
    from zoetrope.infra.runs import sheets_of

    objects = state_store(store)
    entries = collect(objects, run or None)
    if prices:
        sheets = dict.fromkeys({entry.run_id for entry in entries}, choose_price_sheet(prices))
    else:
        sheets = sheets_of(objects, entries, Settings().price_provider)
    names = sorted({sheet.name for sheet in sheets.values()})
    on_cluster = as_json or any(entry.pod for entry in entries)
    rows = []
    for entry in entries:
        row = {
            "run": entry.run_id,
            "step": entry.step,
            "attempt": entry.attempt,
            "outcome": entry.outcome,
            "cpu": entry.resources.cpu,
            "memory_gb": entry.resources.memory_gb,
            "gpus": entry.resources.gpus,
            "seconds": f"{entry.seconds:.1f}",
            "USD": f"{cost(entry, sheets[entry.run_id]):.6f}",
        }
        if as_json or len(names) > 1:
            row["price_sheet"] = sheets[entry.run_id].name
        if on_cluster:
            row |= {"queued": f"{entry.queued_seconds:.0f}", "source": entry.source, "role": entry.role}
            row |= {"pod": entry.pod, "node_type": entry.node_type}
        rows.append(row)
    show(rows, as_json, title=f"price sheet {', '.join(names)}", right=("seconds", "USD", "queued"))


@app.command("collect")
def collect_costs(
    run: Annotated[str, typer.Argument(help="run id; all runs that are not closed yet when left out")] = "",
    namespace: NamespaceOption = "",
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Write down the pods of runs on the cluster: what they asked for, on which machine, how long, how they ended.

    May be repeated at any time. The pipeline's last task and the reaper do the same.

    Example: zoetrope cost collect 0f4c2b1e-6a53-4a0f-9d0e-2f6f6c1f4b11
    """
    from zoetrope.infra.kubernetes.api import Cluster
    from zoetrope.infra.ledger.open_runs import list_open_runs
    from zoetrope.infra.reaper.collector import collect_run

    objects = state_store(store)
    cluster = Cluster.connect(namespace or Settings().namespace)
    runs = [run] if run else sorted(list_open_runs(objects, cluster.namespace))
    show([asdict(collect_run(cluster, objects, each)) for each in runs], as_json)
