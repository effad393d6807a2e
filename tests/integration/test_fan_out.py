"""The data steps over replicas: the same dataset for any number of them, and after one was lost."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from zoetrope.components.caption.step import caption
from zoetrope.components.curate.step import curate
from zoetrope.components.encode.step import encode
from zoetrope.components.ingest.step import ingest
from zoetrope.infra.context import StepContext
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.store import Store, get_json, open_store, put_file_content, put_json
from zoetrope.model.autoencoders import DCAEConfig
from zoetrope.model.autoencoders.dc_ae import VideoDCAE
from zoetrope.model.checkpoint import save_weights
from zoetrope.pipelines.recipe.recipe import Recipe, load_recipe

TINY = str(Path(__file__).parent.parent / "recipes" / "tiny.yaml")
CHANGES = [
    "source.samples={seed: 5, films: 6, shots_per_film: 1, size: 48, held_out_pairs: 6, rates: {duplicate: 0.2}}",
    "encode.clips_per_unit=2",
    "encode.buckets=[{height: 48, width: 48, frames: 8, fps: 8}]",
]
AUTOENCODER = DCAEConfig(
    latent_channels=4,
    widths=(4, 8, 8, 8),
    encoder_depths=(0, 1, 1, 1),
    decoder_depths=(0, 1, 1, 1),
    blocks=("ResBlock",) * 4,
    temporal=(True, True, False),
)


def recipe(workers: int) -> Recipe:
    steps = ("ingest", "curate", "caption", "encode")
    return load_recipe(TINY, [*CHANGES, *(f"{step}.workers={workers}" for step in steps)])


def autoencoder(folder: Path, store: Store) -> str:
    """Of random weights."""
    weights = save_weights(VideoDCAE(AUTOENCODER).initialise(5), folder / "autoencoder.safetensors")
    product = {
        "schema": "zoetrope.autoencoder.v1",
        "kind": "dc_ae",
        "config": json.loads(json.dumps(asdict(AUTOENCODER))),
        "weights": str(put_file_content(store, weights)),
        "latent_mean": [0.0] * 4,
        "latent_std": [1.0] * 4,
    }
    return str(put_json(store, product))


def data_steps(folder: Path, workers: int) -> tuple[Store, dict[str, Any]]:
    """The dataset manifest that the data steps make in a store of their own."""
    given = recipe(workers)
    store = open_store(folder / "store")

    def context(step: str) -> StepContext:
        work = folder / "work" / step
        work.mkdir(parents=True, exist_ok=True)
        return StepContext(step, store, work, folder / "run")

    sources = str(ingest(given.ingest, given.source, context("ingest")).product)
    clips = str(curate(given.curate, sources, context("curate")).product)
    captions = str(caption(given.caption, clips, sources, context("caption")).product)
    model = autoencoder(folder, store)
    return store, get_json(store, encode(given.encode, captions, model, context("encode")).product)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The manifest of the data steps on this machine alone."""
    return data_steps(tmp_path_factory.mktemp("local"), 2)[1]


@pytest.mark.parametrize("replicas", [1, 4, 16])
def test_any_number_of_replicas_makes_the_same_dataset(
    replicas: int, local: dict[str, Any], tmp_path: Path, stand_in: Any
) -> None:
    _, manifest = data_steps(tmp_path, replicas)
    assert manifest["digest"] == local["digest"]
    assert [shard["md5"] for shard in manifest["shards"]] == [shard["md5"] for shard in local["shards"]]
    assert len(manifest["shards"]) > 1, "several units took part"
    assert manifest["counts"] == local["counts"]
    assert max(stand_in.replicas) == min(replicas, 6)
    done = [path for path in (tmp_path / "work").rglob("*") if path.is_file() and path.suffix in (".mp4", ".npy")]
    assert done == [], "the step's own process made no film"


def test_the_retry_of_a_lost_replica_makes_the_same_dataset(
    local: dict[str, Any], tmp_path: Path, stand_in: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every replica is killed when it begins its second unit, in every attempt: what is done stays done."""
    stand_in.environment = {"ZOETROPE_TEST_KILL_AFTER": "1"}
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(KILL_AFTER)
    monkeypatch.setenv("PYTHONPATH", ":".join([str(hook), *_python_path()]))
    lost = 0
    while True:
        try:
            _, manifest = data_steps(tmp_path, 2)
        except ZoetropeError as error:
            assert "SIGKILL" in str(error)
            lost += 1
            assert lost < 30, "every attempt goes further than the one before"
            continue
        break
    assert lost >= 4, "several steps lost replicas"
    assert manifest["digest"] == local["digest"]


KILL_AFTER = '''
"""Kills a replica when it begins its second unit."""
import os, signal, sys

if os.environ.get("ZOETROPE_TEST_KILL_AFTER") and "zoetrope.infra.workers.replica" in sys.orig_argv:
    from zoetrope.infra.workers.exchange import Exchange

    put, done = Exchange.put_result, []

    def put_result(self, number, result):
        if done:
            os.kill(os.getpid(), signal.SIGKILL)
        put(self, number, result)
        done.append(number)

    Exchange.put_result = put_result
'''


def _python_path() -> list[str]:
    return [part for part in os.environ.get("PYTHONPATH", "").split(":") if part]
