"""The pipelines: `data`, `train`, `evaluate`, and `full`, which is their composition.

Composed as plain Python functions, not as nested DAGs: each nested DAG costs a driver pod on a cluster.
"""

from collections.abc import Callable, Mapping
from typing import Any

from kfp import dsl

from zoetrope.components.caption.component import caption
from zoetrope.components.curate.component import curate
from zoetrope.components.encode.component import encode
from zoetrope.components.evaluate.component import evaluate
from zoetrope.components.generate.component import generate
from zoetrope.components.ingest.component import ingest
from zoetrope.components.promote.component import promote
from zoetrope.components.report.component import report
from zoetrope.components.train.autoencoder_component import autoencoder
from zoetrope.components.train.train_stage_component import train_stage
from zoetrope.infra.errors import ZoetropeError
from zoetrope.pipelines.definition.resolve_component import resolve
from zoetrope.pipelines.definition.step_table import PIPELINES, TRAIN_STEPS, UNCACHED

Task = Any  # kfp has no type information
Jobs = Mapping[str, Any]
Place = Callable[[Task, str], None]


class Steps:
    """Adds tasks to the pipeline that is being defined and remembers their records.

    Args:
        inputs: of the `resolve` task.
        place: called with every task and its name; says where it runs on a cluster.
    """

    def __init__(self, place: Place | None = None, **inputs: Any) -> None:
        self._place = place or (lambda task, name: None)
        resolved = resolve(**inputs)
        resolved.set_caching_options(False)
        self._place(resolved, "resolve")
        self.jobs: Jobs = resolved.outputs
        self.records: dict[str, Any] = {}

    def add(self, name: str, component: Any, **inputs: Any) -> Any:
        """One task; returns its product."""
        task = component(job=self.jobs[name], **inputs)
        task.set_display_name(name)
        task.set_caching_options(name not in UNCACHED)
        self._place(task, name)
        self.records[name] = task.outputs["record"]
        return task.outputs["product"]


def add_data(steps: Steps) -> Any:
    """Raw video to a dataset version; returns its reference."""
    sources = steps.add("ingest", ingest)
    clips = steps.add("curate", curate, sources=sources)
    captions = steps.add("caption", caption, clips=clips, sources=sources)
    trained = steps.add("autoencoder", autoencoder, captions=captions)
    return steps.add("encode", encode, captions=captions, autoencoder=trained)


def add_train(steps: Steps, dataset: Any) -> Any:
    """A dataset version to a checkpoint through the three stages; returns its reference."""
    parent: Any = ""
    for stage in TRAIN_STEPS:
        parent = steps.add(stage, train_stage, dataset=dataset, parent=parent)
    return parent


def add_evaluate(steps: Steps, checkpoint: Any) -> None:
    """A checkpoint to videos, scores, the gate and the report."""
    videos = steps.add("generate", generate, checkpoint=checkpoint)
    scores = steps.add("evaluate", evaluate, videos=videos)
    steps.add("promote", promote, checkpoint=checkpoint, scores=scores, **steps.records)
    add_report(steps)


def add_report(steps: Steps) -> None:
    """The report of whatever ran before."""
    steps.add("report", report, **steps.records)


def build(pipeline: str, recipe: str) -> Any:
    """The KFP pipeline object of a pipeline and a recipe.

    Args:
        pipeline: `data`, `train`, `evaluate` or `full`.
        recipe: name of the recipe; the default of the pipeline's input `recipe`.
    """
    if pipeline not in PIPELINES:
        raise ZoetropeError(f"unknown pipeline {pipeline!r}", f"pipelines: {', '.join(PIPELINES)}")
    name = f"zoetrope-{recipe}-{pipeline}".replace("_", "-")

    @dsl.pipeline(name=name, description=f"Raw video to a dataset version, recipe {recipe}.")
    def data(recipe: str = recipe, overrides: str = "") -> None:
        """Raw video to a dataset version.

        Args:
            recipe: name of the recipe.
            overrides: changes of the recipe, one `path=value` per line.
        """
        steps = Steps(recipe=recipe, overrides=overrides)
        add_data(steps)
        add_report(steps)

    @dsl.pipeline(name=name, description=f"A dataset version to a promoted model, recipe {recipe}.")
    def train(dataset: str, recipe: str = recipe, overrides: str = "") -> None:
        """A dataset version to a promoted model.

        Args:
            dataset: reference to a dataset version, URI@sha256:digest.
            recipe: name of the recipe.
            overrides: changes of the recipe, one `path=value` per line.
        """
        steps = Steps(recipe=recipe, overrides=overrides, dataset=dataset)
        add_evaluate(steps, add_train(steps, steps.jobs["dataset_version"]))

    @dsl.pipeline(name=name, description=f"A checkpoint to scores and the gate, recipe {recipe}.")
    def evaluation(checkpoint: str, recipe: str = recipe, overrides: str = "") -> None:
        """A checkpoint to scores and the gate.

        Args:
            checkpoint: reference to a checkpoint, URI@sha256:digest.
            recipe: name of the recipe.
            overrides: changes of the recipe, one `path=value` per line.
        """
        add_evaluate(Steps(recipe=recipe, overrides=overrides), checkpoint)

    @dsl.pipeline(name=name, description=f"Raw video to a promoted model, recipe {recipe}.")
    def full(recipe: str = recipe, overrides: str = "") -> None:
        """Raw video to a promoted model.

        Args:
            recipe: name of the recipe.
            overrides: changes of the recipe, one `path=value` per line.
        """
        steps = Steps(recipe=recipe, overrides=overrides)
        add_evaluate(steps, add_train(steps, add_data(steps)))

    return {"data": data, "train": train, "evaluate": evaluation, "full": full}[pipeline]
