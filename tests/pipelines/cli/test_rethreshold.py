"""`zoetrope data rethreshold`: the funnel of other thresholds, from stored scores alone."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pytest
from rich.console import Console
from typer.testing import CliRunner

from zoetrope.components.curate.filters import FilterSettings
from zoetrope.components.curate.filters.blur import Blur
from zoetrope.components.curate.thresholds import apply_thresholds, funnel
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.store import Store, get_json, open_store, put_json, put_table
from zoetrope.pipelines.cli import common, rethreshold
from zoetrope.pipelines.cli.data import app
from zoetrope.pipelines.cli.rethreshold import funnels

SCORED = {"motion", "jitter", "blur", "text_area", "bars_area", "perceptual_hash"}
OLD = FilterSettings(
    **{name: type(each)(enabled=False) for name, each in FilterSettings().table().items() if set(each.columns) - SCORED}
    | {"blur": Blur(enabled=False)}
)
"""Without `blur`, and without filters that judge columns which the made-up clips do not have."""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store")


@pytest.fixture
def product(store: Store) -> str:
    """Four clips of three seconds with motion 0.1, 0.4, 0.7 and 1; nothing behind their references to videos."""
    rows = [
        {
            "clip_id": f"{number:064x}",
            "video": "file:///gone.mp4@sha256:" + "0" * 64,
            "seconds": 3.0,
            "motion": 0.1 + 0.3 * number,
            "jitter": 0.1,
            "blur": 5.0,
            "text_area": 0.0,
            "bars_area": 0.0,
            "crop_width": 96,
            "crop_height": 96,
            "perceptual_hash": b"".join(hashlib.sha256(bytes([number, part])).digest() for part in range(3)).hex(),
        }
        for number in range(4)
    ]
    clips = apply_thresholds(pyarrow.Table.from_pylist(rows), OLD)
    manifest = {
        "schema": "zoetrope.clips.v1",
        "table": str(put_table(store, clips)),
        "funnel": str(put_json(store, funnel(clips, OLD))),
    }
    return str(put_json(store, manifest))


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., str]:
    """What the command prints."""

    def run(*arguments: str) -> str:
        page = io.StringIO()
        for module in (common, rethreshold):
            monkeypatch.setattr(module, "output", Console(file=page, width=200))
        result = CliRunner().invoke(app, ["rethreshold", *arguments, "--store", str(tmp_path)], catch_exceptions=False)
        return result.output + page.getvalue()

    return run


def test_the_funnel_before_and_after(product: str, output: Callable[..., str], store: Store) -> None:
    objects = list(store.list(""))
    page = output(product, "--set", "curate.filters.motion.minimum=0.5", "--set", "curate.filters.text.enabled=false")
    lines = {line.split()[0]: " ".join(line.split()) for line in page.splitlines() if line.split()}
    assert lines["motion"] == "motion minimum 0.35 -> 0.5 1 -> 2 3 -> 2 0.1"
    assert lines["text"] == "text enabled True -> False 0 3 -> 2 0.1"
    assert "blur" not in lines
    assert lines["3"] == "3 -> 2 of 4 clips kept (-1, -0.1 minutes); nothing was changed"
    assert list(store.list("")) == objects


def test_as_json_of_a_run(product: str, output: Callable[..., str], store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "nano-1"
    folder.mkdir(parents=True)
    (folder / "record.json").write_text(json.dumps({"steps": {"curate": {"product": product}}}))
    store.put_bytes("runs/on-a-cluster/steps/curate.json", json.dumps({"product": product}).encode())
    for run in ("nano-1", "on-a-cluster"):
        found = json.loads(output(run, "--set", "curate.filters.blur={enabled: true, minimum: 6}", "--json"))
        assert found["clips"] == product
        assert (found["before"]["kept"]["clips"], found["after"]["kept"]["clips"]) == (3, 0)
        assert found["before"] == get_json(store, get_json(store, product)["funnel"])


def test_without_a_change_it_is_the_same_funnel(product: str, store: Store) -> None:
    before, after = funnels(store, product, [])
    assert before == after


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("curate.max_seconds=4", "--set curate.max_seconds=4: no threshold"),
        ("curate.filters.text.measure.block=4", "changes the score itself, which is measured from the videos"),
        ("curate.filters.motion.minimun=1", "unknown key curate.filters.motion.minimun"),
        ("curate.filters.motion.minimum=much", "curate.filters.motion.minimum must be a valid number"),
        ("stages.stage_1.steps=4", "no threshold"),
    ],
)
def test_what_is_no_threshold_is_refused(change: str, message: str, product: str, store: Store) -> None:
    with pytest.raises(ZoetropeError, match=message) as caught:
        funnels(store, product, [change])
    assert caught.value.hint


def test_other_products_unknown_runs_and_scores_that_were_never_measured_are_named(
    product: str, store: Store, output: Callable[..., str]
) -> None:
    other = str(put_json(store, {"schema": "zoetrope.sources.v1"}))
    with pytest.raises(ZoetropeError, match=r"a product of another step \(zoetrope.sources.v1\)"):
        funnels(store, other, [])
    with pytest.raises(ZoetropeError, match="run nano-2: no product of its step `curate` is known here"):
        output("nano-2")
    story = get_json(store, get_json(store, product)["funnel"])
    table = apply_thresholds(pyarrow.table({"clip_id": ["a"], "seconds": [3.0], "motion": [1.0]}), FilterSettings(
        **{name: {"enabled": False} for name in FilterSettings.model_fields}
    ))  # fmt: skip
    known = [item for item in story["filters"] if item["name"] == "motion"]
    old = {
        "schema": "zoetrope.clips.v1",
        "table": str(put_table(store, table)),
        "funnel": str(put_json(store, {**story, "filters": known})),
    }
    before_new_filters = str(put_json(store, old))
    assert funnels(store, before_new_filters, [])[1]["kept"]["clips"] == 1
    with pytest.raises(ZoetropeError, match=r"the clips have no scores of the filter jitter \(jitter\)"):
        funnels(store, before_new_filters, ["curate.filters.jitter.enabled=true"])
