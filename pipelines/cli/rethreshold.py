"""`zoetrope data rethreshold`: what other thresholds would keep, from stored scores."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.store import get_json, get_table
from zoetrope.pipelines.cli.common import (
    DEFAULT_STORE,
    JsonOption,
    SetOption,
    StoreOption,
    output,
    show,
    state_paths,
    state_store,
)

if TYPE_CHECKING:
    from zoetrope.components.curate.filters import FilterSettings
    from zoetrope.infra.store import Store

PREFIX = ("curate", "filters")


def rethreshold(
    clips: Annotated[str, typer.Argument(metavar="RUN", help="a run, or the reference of a product of `curate`")],
    overrides: SetOption = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Show what other thresholds would keep: the funnel before and after, from stored scores.

    No video is read and nothing is changed; a run with the same --set makes the clips, and measures nothing again.

    Example: zoetrope data rethreshold nano-20261123-101500-a1b2 --set curate.filters.motion.minimum=0.5
    """
    objects = state_store(store)
    product = clips if "@sha256:" in clips else _product(objects, state_paths(store).run(clips), clips)
    before, after = funnels(objects, product, overrides or ())
    if as_json:
        typer.echo(json.dumps({"clips": product, "before": before, "after": after}, indent=1))
        return
    show(_rows(before, after), False, right=("says_no", "left", "minutes_left"))
    changed = after["kept"]["clips"] - before["kept"]["clips"]
    output.print(
        f"{before['kept']['clips']} -> {after['kept']['clips']} of {after['total']['clips']} clips kept ({changed:+d}, "
        f"{(after['kept']['seconds'] - before['kept']['seconds']) / 60:+.1f} minutes); nothing was changed",
        highlight=False,
    )


def funnels(store: Store, product: str, overrides: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The funnel of a product of `curate`, and the one that other thresholds would give.

    Args:
        store: where the product lies.
        product: its reference.
        overrides: `curate.filters.NAME.THRESHOLD=VALUE`; thresholds that are not named stay those of the product.

    Raises:
        ZoetropeError: the product is another one, or an override is no threshold.
    """
    from zoetrope.components.curate.thresholds import apply_thresholds, funnel

    manifest = get_json(store, product)
    if manifest.get("schema") != "zoetrope.clips.v1":
        raise ZoetropeError(
            f"{product}: a product of another step ({manifest.get('schema', 'no schema')})",
            "give a run, or the reference of a product of `curate`",
        )
    before: dict[str, Any] = get_json(store, manifest["funnel"])
    filters = changed_thresholds(before, overrides)
    table = get_table(store, manifest["table"])
    for name, filter_ in filters.table().items():
        missing = [column for column in filter_.columns if column not in table.column_names]
        if filter_.enabled and missing:
            raise ZoetropeError(
                f"the clips have no scores of the filter {name} ({', '.join(missing)})",
                "run `curate` again with this version, which measures them",
            )
    return before, dict(funnel(apply_thresholds(table, filters), filters))


def changed_thresholds(before: Mapping[str, Any], overrides: Sequence[str]) -> FilterSettings:
    """The thresholds that gave a funnel, with overrides; a filter that the funnel does not know is off."""
    from zoetrope.components.curate.config import CurateConfig
    from zoetrope.components.curate.filters import FilterSettings
    from zoetrope.infra.config import StrictModel
    from zoetrope.pipelines.recipe.files import apply_overrides, validate

    class Thresholds(StrictModel):
        curate: CurateConfig

    old = {item["name"]: {"enabled": item["enabled"], **item["settings"]} for item in before["filters"]}
    values = {"curate": {"filters": {name: {"enabled": False} for name in FilterSettings.model_fields} | old}}
    places = apply_overrides(values, overrides)
    for path, place in places.items():
        if len(path) > 1 and path[:2] != PREFIX:
            raise ZoetropeError(f"{place}: no threshold", "only curate.filters.NAME.THRESHOLD can be changed here")
        if path[3:4] == ("measure",):
            raise ZoetropeError(
                f"{place}: changes the score itself, which is measured from the videos",
                "run the recipe with this --set; only the scores of this filter are measured again",
            )
    return validate(Thresholds, values, places).curate.filters


def _product(objects: Store, directory: Path, run: str) -> str:
    """What `curate` made in a run of this machine, or of a cluster with the same store."""
    record = directory / "record.json"
    steps: dict[str, Any] = {}
    if directory.name == run and record.is_file():
        steps = json.loads(record.read_text(encoding="utf-8"))["steps"]
    product = steps.get("curate", {}).get("product", "")
    uri = objects.uri(f"runs/{run}/steps/curate.json")
    if not product and objects.exists(uri):
        product = json.loads(objects.read(uri))["product"]
    if not product:
        raise ZoetropeError(
            f"run {run}: no product of its step `curate` is known here",
            "`zoetrope runs list` shows what there is; or give the reference of the product",
        )
    return str(product)


def _rows(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One line a filter: thresholds that changed, and clips, before -> after."""
    old = {item["name"]: item for item in before["filters"]}
    rows = []
    for new in after["filters"]:
        known = old.get(new["name"], {**new, "enabled": False, "settings": {}})
        if not (known["enabled"] or new["enabled"]):
            continue
        rows.append(
            {
                "filter": new["name"],
                "changed": ", ".join(_changes(known, new)),
                "says_no": _arrow(known["says_no"]["clips"], new["says_no"]["clips"]),
                "left": _arrow(known["out"]["clips"], new["out"]["clips"]),
                "minutes_left": _arrow(*(f"{each['out']['seconds'] / 60:.1f}" for each in (known, new))),
            }
        )
    return rows


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    before, after = ({"enabled": each["enabled"], **each["settings"]} for each in (old, new))
    return [f"{name} {_arrow(before.get(name), value)}" for name, value in after.items() if before.get(name) != value]


def _arrow(before: object, after: object) -> str:
    return str(after) if before == after else f"{before} -> {after}"
