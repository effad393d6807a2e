"""Training in pods that share the store and no disk: two torchrun agents, each with a scratch folder of its own."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.components.train.test_train_steps import (
    AUTOENCODER,
    STAGE,
    World,
    dataset_and_parent,
    stage_config,
)
from zoetrope.components.train.job import TrainingJob
from zoetrope.components.train.step import train_autoencoder, train_stage
from zoetrope.infra.context import StepContext
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.placement import Placement
from zoetrope.infra.store import get_json


@pytest.fixture
def pods(stand_in: Any) -> Any:
    """The stand-in, with all replicas at once."""
    stand_in.at_once = 0
    return stand_in


TWO_NODES = Placement(nodes=2, processes_per_node=1)


def in_pods(store: Any, folder: Path, run_id: str, key: str = "") -> StepContext:
    """The context of a stage whose job runs on two nodes."""
    return StepContext("stage_2", store, folder / "work", folder / "run", run_id=run_id, key=key, placement=TWO_NODES)


def hook(folder: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Runs a program at the start of every Python process that is started from now on."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(program)
    monkeypatch.setenv("PYTHONPATH", ":".join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")])))


AT_STEP = """
import os, signal, sys

if os.environ.get("RANK") == "{rank}" and os.environ.get("JOB_COMPLETION_INDEX"):
    import zoetrope.model.training.loop as loop

    run_step = loop._Loop.run_step

    def at(self):
        if self.step == {step} and self.resumed_at == 0:
            self.checkpoints.finish()
            os.kill(os.getpid(), signal.{signal})
            self.resume.stop is None or self.resume.stop()
        run_step(self)

    loop._Loop.run_step = at
"""


def test_the_autoencoder_of_two_nodes_is_that_of_one_machine(
    tmp_path: Path, pods: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path)
    captions = world.captions()
    world.context.placement = TWO_NODES
    there = get_json(world.store, train_autoencoder(AUTOENCODER, captions, world.context).product)
    nodes = sorted(path.parent.parent.parent.parent.name for path in tmp_path.rglob("clips.npy"))
    assert nodes == ["node-0", "node-1"], "each node decoded for itself"
    monkeypatch.setenv("ZOETROPE_CLUSTER", "false")
    here = get_json(world.store, train_autoencoder(AUTOENCODER, captions, world.context).product)
    assert there == here


def test_a_stage_goes_on_after_a_node_was_lost_and_ends_alike(
    checkpoint_store: Any, tmp_path: Path, pods: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, dataset, parent = dataset_and_parent(checkpoint_store)
    config = stage_config(checkpoint_store, stage=STAGE)
    monkeypatch.setenv("ZOETROPE_CLUSTER", "false")
    undisturbed = train_stage(config, dataset, parent, StepContext("stage_2", store, tmp_path / "a", tmp_path / "run"))
    monkeypatch.setenv("ZOETROPE_CLUSTER", "true")
    context = in_pods(store, tmp_path, "lost", "f" * 64)
    with monkeypatch.context() as disturbed:
        hook(tmp_path / "hook", disturbed, AT_STEP.format(rank=1, step=3, signal="SIGKILL"))
        with pytest.raises(ZoetropeError):
            train_stage(config, dataset, parent, context)
    key = f"resume/stage_2-{'f' * 16}/"
    assert any(uri.endswith("/complete.json") for uri in store.list(key))
    for node in tmp_path.glob("cluster/node-*"):
        node.rename(node.with_name(f"gone-{node.name}"))  # the disks went with the pods
    result = train_stage(config, dataset, parent, context)
    assert result.metrics["resumed_at_step"] == 2
    weights = [get_json(store, each.product)["weights"] for each in (result, undisturbed)]
    assert weights[0] == weights[1]
    assert result.metrics["final_loss"] == undisturbed.metrics["final_loss"]
    assert pods.jobs[0] == pods.jobs[1]
    assert list(store.list(key)) == [], "what nobody needs any more is removed"
    context.attempt = 2
    train_stage(config, dataset, parent, context)
    assert len(pods.jobs) == 2, "a result that is there is not computed again"


def test_asked_to_end_it_saves_between_reports_and_ends_alike(
    checkpoint_store: Any, tmp_path: Path, pods: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM in the third step of a report of two: its first step must not be lost."""
    store, dataset, parent = dataset_and_parent(checkpoint_store)
    config = stage_config(checkpoint_store, stage=replace(STAGE, save_every=0))
    context = in_pods(store, tmp_path, "told", "e" * 64)
    with monkeypatch.context() as disturbed:
        hook(tmp_path / "hook", disturbed, AT_STEP.format(rank=1, step=2, signal="SIGTERM"))
        with pytest.raises(ZoetropeError, match="exit status 143"):
            train_stage(config, dataset, parent, context)
    result = train_stage(config, dataset, parent, context)
    assert result.metrics["resumed_at_step"] == 3
    monkeypatch.setenv("ZOETROPE_CLUSTER", "false")
    undisturbed = train_stage(config, dataset, parent, StepContext("stage_2", store, tmp_path / "a", tmp_path / "run"))
    assert get_json(store, result.product)["weights"] == get_json(store, undisturbed.product)["weights"]
    assert result.metrics["final_loss"] == undisturbed.metrics["final_loss"]


def test_a_place_with_another_number_of_workers_is_refused(
    checkpoint_store: Any, step_context: StepContext, stand_in: Any
) -> None:
    _, dataset, parent = dataset_and_parent(checkpoint_store)
    # A run of its own: other tests leave results of this configuration in the same store.
    step_context.run_id = "refused"
    step_context.placement = Placement(nodes=3, processes_per_node=2)
    with pytest.raises(ZoetropeError, match=r"3 nodes with 2 processes each are 6 workers, the step's .* says 2"):
        train_stage(stage_config(checkpoint_store), dataset, parent, step_context)
    assert stand_in.jobs == []


def test_the_result_does_not_depend_on_the_launchers_attempt(tmp_path: Path) -> None:
    world = World(tmp_path)
    context = world.context
    first = TrainingJob.of("autoencoder", {"a": 1}, {}, context, pods=True)
    context.attempt = 2
    second = TrainingJob.of("autoencoder", {"a": 1}, {}, context, pods=True)
    assert (first.result, first.mirror, first.digest) == (second.result, second.mirror, second.digest)
    assert TrainingJob.get(first.store, first.put()) == first
    other = TrainingJob.of("autoencoder", {"a": 2}, {}, context, pods=True)
    assert other.result != first.result and other.mirror != first.mirror
    assert str(tmp_path / "work") not in json.dumps(first.__dict__)


def test_a_mistake_in_a_pod_is_the_steps_own_message(checkpoint_store: Any, tmp_path: Path, pods: Any) -> None:
    store, dataset, _ = dataset_and_parent(checkpoint_store)
    given = tmp_path / "bad.safetensors"
    given.write_bytes(b"no weights")
    context = in_pods(store, tmp_path, "bad")
    with pytest.raises(ZoetropeError, match="stage_2: ValueError: ") as caught:
        train_stage(stage_config(checkpoint_store, pretrained=str(given)), dataset, "", context)
    assert not caught.value.retryable
