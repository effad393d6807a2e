"""Promote decides from scores, gates, cost and rights, on a real registry."""

import math
import shutil
from decimal import Decimal

import pytest

from zoetrope.components.promote import PromoteConfig, promote
from zoetrope.infra.context import StepContext
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.references import Reference
from zoetrope.infra.store import get_json, open_store, put_json
from zoetrope.infra.tracking import ModelRegistry, Tracker, local_tracking_uri


@pytest.fixture(scope="module")
def uri(tmp_path_factory, empty_mlflow):
    return local_tracking_uri(shutil.copytree(empty_mlflow, tmp_path_factory.mktemp("promote") / "mlflow"))


class Bench:
    """Makes the inputs of the step and runs it."""

    def __init__(self, tmp_path, model):
        self.store = open_store(tmp_path / "store")
        self.context = StepContext("promote", self.store, tmp_path / "work", tmp_path / "run", run_id="run-1")
        self.config = PromoteConfig(model=model, budget_usd=Decimal(1))

    def checkpoint(self, number, **dataset):
        manifest = {"schema": "zoetrope.dataset.v1", "digest": f"{number:x}", "rights": "own", "licence": "CC0-1.0"}
        dataset_reference = put_json(self.store, manifest | dataset)
        return str(put_json(self.store, {"stage": "stage_3", "steps": number, "dataset": str(dataset_reference)}))

    def scores(self, checkpoint, accuracy=0.6, higher_is_better=True, **more):
        videos = put_json(self.store, {"schema": "zoetrope.videos.v1", "checkpoint": checkpoint})
        product = {
            "scores": {"accuracy": accuracy, "loss": 1.5},
            "higher_is_better": {"accuracy": higher_is_better},
            "headline": "accuracy",
            "videos": str(videos),
        }
        return str(put_json(self.store, product | more))

    def record(self, step="curate", cost="0.25", gates=True, sheet="local-2026-11"):
        gates = [{"name": f"{step} gate", "success": gates}] if gates is not None else []
        return str(put_json(self.store, {"step": step, "cost_usd": cost, "price_sheet": sheet, "gates": gates}))

    def run(self, checkpoint, scores=None, records=None, **config):
        return promote(
            self.config.model_copy(update=config),
            checkpoint,
            scores or self.scores(checkpoint),
            [self.record()] if records is None else records,
            self.context,
        )

    def product(self, *arguments, **keywords):
        return get_json(self.store, self.run(*arguments, **keywords).product)


@pytest.fixture
def bench(tmp_path, uri, monkeypatch, request):
    monkeypatch.setenv("ZOETROPE_TRACKING_URI", uri)
    return Bench(tmp_path, f"m-{abs(hash(request.node.nodeid))}")


@pytest.fixture
def registry(uri):
    return ModelRegistry(uri)


def failed(product):
    return [check["name"] for check in product["checks"] if not check["passed"]]


def test_the_first_good_checkpoint_is_champion(bench, registry, uri):
    run = Tracker(uri, "zoetrope", adopt="").start_run("run-1", "nano")
    checkpoint = bench.checkpoint(1)
    result = bench.run(checkpoint)
    product = get_json(bench.store, result.product)
    assert product["schema"] == "zoetrope.promotion.v1"
    assert (product["promoted"], product["version"], product["aliases"]) == (True, 1, ["champion"])
    assert (product["checkpoint"], product["previous"], failed(product)) == (checkpoint, None, [])
    champion = registry.by_alias(bench.config.model, "champion")
    assert champion.checkpoint == Reference.parse(checkpoint)
    assert champion.tags["score.accuracy"] == "0.6"
    assert champion.tags["gate.budget"].startswith("passed: 0.25 USD")
    assert champion.tags["rights"] == "own"
    assert registry.client.get_model_version(bench.config.model, "1").run_id == run
    assert "version 1 is champion" in result.key_figure
    assert result.metrics == {"promoted": 1.0, "total_cost_usd": 0.25}


def test_the_same_checkpoint_again_is_the_same_version(bench, registry):
    checkpoint = bench.checkpoint(1)
    assert bench.product(checkpoint) == bench.product(checkpoint)
    assert len(registry.versions(bench.config.model)) == 1


def test_a_better_one_takes_over_and_names_the_champion_before(bench, registry):
    first, second = bench.checkpoint(1), bench.checkpoint(2)
    bench.run(first)
    product = bench.product(second, bench.scores(second, 0.7))
    assert (product["promoted"], product["version"], product["previous"]) == (True, 2, 1)
    assert registry.by_alias(bench.config.model, "champion").tags["previous"] == "1"
    assert bench.product(second, bench.scores(second, 0.7))["previous"] == 1
    # The former champion is promoted again only when it beats the present one.
    assert bench.product(first)["promoted"] is False
    assert registry.by_alias(bench.config.model, "champion").version == 2


@pytest.mark.parametrize(
    ("accuracy", "higher", "tolerance", "promoted"),
    [(0.6, True, 0.0, True), (0.59, True, 0.0, False), (0.59, True, 0.02, True), (0.55, True, 0.02, False),
     (0.61, False, 0.0, False), (0.59, False, 0.0, True)],
)  # fmt: skip
def test_the_champion_must_not_be_beaten_by_a_worse_one(bench, registry, accuracy, higher, tolerance, promoted):
    first, second = bench.checkpoint(1), bench.checkpoint(2)
    bench.run(first)
    product = bench.product(second, bench.scores(second, accuracy, higher), tolerance=tolerance)
    assert product["promoted"] is promoted
    assert failed(product) == ([] if promoted else ["champion"])
    model = bench.config.model
    assert registry.by_alias(model, "champion").version == (2 if promoted else 1)
    candidate = registry.by_alias(model, "candidate")
    assert candidate is None if promoted else candidate.version == 2
    if not promoted:
        assert product["aliases"] == ["candidate"]
        assert candidate.tags["reason"].startswith("champion: accuracy")


def test_each_fault_keeps_the_model_a_candidate(bench):
    other = bench.checkpoint(99)
    cases = {
        "scores": lambda c: {"scores": bench.scores(c, headline="absent")},
        "lineage": lambda c: {"scores": bench.scores(other)},
        "data_gates": lambda c: {"records": [bench.record(), bench.record("encode", gates=False)]},
        "budget": lambda c: {"records": [bench.record(cost="0.6"), bench.record(cost="0.4000001")]},
    }
    for number, (name, inputs) in enumerate(cases.items(), start=1):
        checkpoint = bench.checkpoint(number)
        product = bench.product(checkpoint, **inputs(checkpoint))
        assert (product["promoted"], product["aliases"], failed(product)) == (False, ["candidate"], [name])


def test_no_gate_at_all_and_a_missing_price_are_not_green(bench):
    checkpoint = bench.checkpoint(1)
    assert failed(bench.product(checkpoint, records=[bench.record(gates=None)])) == ["data_gates"]
    product = bench.product(checkpoint, records=[bench.record(), bench.record("encode", cost="")])
    assert failed(product) == ["budget"]
    assert product["checks"][4]["detail"] == "no price for encode"
    assert bench.product(checkpoint, records=[bench.record(cost="1")])["promoted"]
    assert bench.product(checkpoint, records=[bench.record(cost="9000")], budget_usd=None)["promoted"]


@pytest.mark.parametrize("rights", ["unknown", "None", "", " unknown "])
def test_unknown_rights_are_refused_unless_allowed(bench, rights):
    checkpoint = bench.checkpoint(1, rights=rights)
    assert failed(bench.product(checkpoint)) == ["rights"]
    assert bench.product(checkpoint, refused_rights=())["promoted"]


def test_a_candidate_that_is_good_the_second_time_loses_that_name(bench, registry):
    checkpoint = bench.checkpoint(1)
    bench.run(checkpoint, records=[bench.record(gates=False)])
    assert registry.by_alias(bench.config.model, "candidate").version == 1
    assert bench.product(checkpoint)["aliases"] == ["champion"]
    assert registry.by_alias(bench.config.model, "champion").tags["reason"] == "all checks passed"


def test_scores_that_are_no_numbers_are_refused(bench):
    checkpoint = bench.checkpoint(1)
    for value in (None, "high", True):
        scores = bench.scores(checkpoint, scores={"accuracy": value})
        product = bench.product(checkpoint, scores)
        assert failed(product)[0] == "scores"
    # Canonical JSON holds no infinity, so such a score cannot even be written.
    with pytest.raises(ValueError, match="Out of range"):
        bench.scores(checkpoint, math.inf)


def test_the_page_shows_every_check_and_escapes_what_it_shows(bench):
    checkpoint = bench.checkpoint(1, licence="<script>")
    page = bench.run(checkpoint).page
    assert "<script>" not in page
    assert page.count("<td>passed</td>") == 7


def test_without_a_registry_there_is_a_clear_error(bench, monkeypatch):
    monkeypatch.setenv("ZOETROPE_TRACKING_URI", "")
    with pytest.raises(ZoetropeError, match="no tracking URI"):
        bench.run(bench.checkpoint(1))
