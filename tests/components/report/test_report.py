from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from zoetrope.components.report.config import ReportConfig, ReportStep
from zoetrope.components.report.step import render_report, report
from zoetrope.infra.context import StepContext
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.store import get_bytes, get_json, put_json

RUN = "2026-11-23-nano-1"
CONFIG = ReportConfig(
    run_id=RUN,
    recipe="nano",
    recipe_hash="cd" * 32,
    commit="abc1234",
    dirty=True,
    dataset_tag="nano-v3",
    tracking_uri="http://mlflow.example:5000",
    sample_pairs=6,
    steps=tuple(
        ReportStep(name=name, title=name.replace("_", " ").capitalize())
        for name in (
            "ingest", "curate", "caption", "autoencoder", "encode", "stage_1", "stage_2", "stage_3",
            "generate", "evaluate", "promote",
        )
    ),
)  # fmt: skip
VOID = {"meta", "line", "path", "circle", "br", "link", "img", "source"}


class Page(HTMLParser):
    """Parses a page, checks that tags nest, and collects what a browser would load or run."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.loads: list[str] = []
        self.links: list[str] = []
        self.handlers: list[str] = []
        self.scripts = 0
        self.unlabelled: list[str] = []
        self.words: list[str] = []
        self.ids: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open, f"unclosed: {self.open}"
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        if tag not in VOID:
            self.open.append(tag)
        self.scripts += tag == "script"
        self.handlers += [name for name in given if name.startswith("on")]
        self.ids += [str(given["id"])] if "id" in given else []
        if tag == "a":
            self.links.append(str(given.get("href")))
        elif tag in ("video", "img", "source", "script", "link", "iframe"):
            self.loads += [str(given[name]) for name in ("src", "href", "poster") if given.get(name)]
        if tag in ("video", "svg") and not given.get("aria-label"):
            self.unlabelled.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert tag in VOID, f"<{tag}/> does not close itself in HTML"

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> does not match"

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.words.append(data)


def whole(run: Any, *, promoted: bool = True) -> list[str]:
    run.data()
    run.train()
    run.evaluate(run.generate())
    run.promote(promoted)
    references: list[str] = run.references()
    return references


def test_a_whole_run_is_one_page_that_loads_nothing(run: Any) -> None:
    html = render_report(CONFIG, whole(run), run.store)
    page = Page(html)
    assert page.loads and all(load.startswith("data:video/mp4;base64,") for load in page.loads)
    assert len(page.loads) == 12  # six prompts, trained and untrained
    outside = [link for link in page.links if link.startswith("http")]
    assert outside == ["http://mlflow.example:5000"]
    assert not re.search(r"@import|url\(", html)
    assert page.scripts == 1 and not page.handlers and not page.unlabelled
    anchors = [link[1:] for link in page.links if link.startswith("#")]
    assert set(anchors) <= set(page.ids) and len(page.ids) == len(set(page.ids))


def test_it_tells_the_story_of_the_run(run: Any) -> None:
    text = Page(render_report(CONFIG, whole(run), run.store)).text
    for expected in (
        "Promoted to champion",
        "zoetrope-nano version 3 passed every check and follows version 2",
        "612",
        "truncated: 12 of 48 frames decode",
        "✗ up",
        "✓ red",
        "< 0.0001",
        "abc1234 (working tree changed)",
        "nano-v3",
        "local-2026-11",
        "ab" * 32,
        "zoetrope generate --checkpoint models:/zoetrope-nano@champion",
        "result of stage_2",
    ):
        assert expected in text, expected


def test_losses_are_drawn_with_their_points(run: Any) -> None:
    html = render_report(CONFIG, whole(run), run.store)
    assert html.count('<svg class="chart"') == 8  # loss and gradient norm of four trainings
    assert "Stage 3: loss from" in html
    points = json.loads(re.findall(r'data-points="([^"]*)"', html)[0].replace("&#34;", '"'))
    assert len(points) == 90 and points[0][2] == 1


def test_hostile_text_stays_text(run: Any) -> None:
    hostile = "<script>alert(1)</script><img src=x onerror=alert(1)> {{ 7 * 7 }} \"'"
    run.data(rejected=[{"name": hostile, "reason": hostile}])
    run.evaluate(run.generate([(hostile, "red", "left")]))
    page = Page(render_report(CONFIG.model_copy(update={"recipe": hostile}), run.references(), run.store))
    assert page.scripts == 1 and not page.handlers
    assert not [load for load in page.loads if not load.startswith("data:video/mp4")]
    assert page.text.count("<script>alert(1)</script>") >= 3 and "{{ 7 * 7 }}" in page.text


def test_a_link_that_a_browser_would_run_is_shown_as_text(run: Any) -> None:
    gate = {"name": "clips", "success": True, "statistics": {}, "docs": "javascript:alert(1)", "failures": []}
    run.add("curate", {"schema": "zoetrope.clips.v1", "counts": {"shots": 1, "kept": 1}}, gates=[gate])
    page = Page(render_report(CONFIG, run.references(), run.store))
    assert "javascript:alert(1)" in page.text
    assert not [link for link in page.links if link.startswith("javascript")]


def test_a_red_gate_is_named_when_nothing_came_after_it(run: Any) -> None:
    run.data(gate=False)
    text = Page(render_report(CONFIG, run.references(), run.store)).text
    assert "No model promoted" in text and "data gate clips is red" in text
    assert "expect_between on motion: 3 rows" in text


def test_a_candidate_says_what_it_missed(run: Any) -> None:
    text = Page(render_report(CONFIG, whole(run, promoted=False), run.store)).text
    assert "Not promoted" in text and "not_worse_than_champion: champion has 0.99" in text


def test_an_empty_run_has_a_report(run: Any) -> None:
    assert "No model was trained in this run." in Page(render_report(CONFIG, [], run.store)).text


def test_cached_steps_cost_this_run_nothing(run: Any) -> None:
    run.data(run_id="an earlier run")
    run.train()
    page = Page(render_report(CONFIG, run.references(), run.store))
    # steps 5 to 8 of the fixture ran now at $0.000N each, steps 1 to 4 come from the cache
    assert "cost of this run $0.0026" in page.text
    assert re.search(r"With the reused steps \$0\.0036", page.text)
    assert page.text.count("reused") >= 4


def test_samples_give_way_when_the_file_would_grow_too_large(run: Any) -> None:
    references = whole(run)
    small = render_report(CONFIG.model_copy(update={"maximum_megabytes": 2.05}), references, run.store)
    full = render_report(CONFIG, references, run.store)
    assert len(small) < len(full)
    assert "more were left out" in Page(small).text


def test_the_step_stores_the_same_page_each_time(run: Any) -> None:
    references = whole(run)
    context = StepContext("report", run.store, run.work, run.work / "run", run_id=RUN)
    result = report(CONFIG, references, context)
    product = get_json(run.store, result.product)
    assert product["schema"] == "zoetrope.report.v1"
    assert get_bytes(run.store, product["html"]).decode() == result.page
    assert report(CONFIG, list(reversed(references)), context).product == result.product


def test_something_else_than_a_record_is_refused(run: Any) -> None:
    other = str(put_json(run.store, {"schema": "zoetrope.clips.v1"}))
    with pytest.raises(ZoetropeError, match="not a record"):
        render_report(CONFIG, [other], run.store)
