"""`zoetrope models`: what is registered and what is champion."""

from __future__ import annotations

from typing import Annotated

import typer

from zoetrope.pipelines.cli.common import DEFAULT_STORE, JsonOption, StoreOption, show, tracking_uri

app = typer.Typer(help="Registered models.", no_args_is_help=True)


@app.command("list")
def list_models(
    name: Annotated[str, typer.Argument(help="name of the model")] = "zoetrope-nano",
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """List the versions of a model, with their aliases and checkpoints.

    Example: zoetrope models list zoetrope-nano
    """
    from zoetrope.infra.tracking import ModelRegistry

    rows = [
        {
            "version": each.version,
            "aliases": ", ".join(each.aliases),
            "checkpoint": str(each.checkpoint) if as_json else str(each.checkpoint).rpartition(":")[2][:12],
        }
        for each in ModelRegistry(tracking_uri(store)).versions(name)
    ]
    show(rows, as_json, title=name)
