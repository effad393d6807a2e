"""The pipelines as KFP takes them, made from the step table: one body for this machine and for a cluster.

Composed as plain Python functions, not as nested DAGs: each nested DAG costs a driver pod on a cluster.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from kfp import dsl

from zoetrope.infra.errors import ZoetropeError
from zoetrope.pipelines.definition.finish_component import finish
from zoetrope.pipelines.definition.form import cluster_inputs, docstring, local_inputs
from zoetrope.pipelines.definition.resolve_component import resolve
from zoetrope.pipelines.definition.step_table import (
    PIPELINE_ROWS,
    PIPELINES,
    RECORDS,
    STEPS,
    StepRow,
    load,
    starts_from,
)

Task = Any  # kfp has no type information


@dataclass(frozen=True)
class OnCluster:
    """What a pipeline for a cluster has beside its steps.

    Attributes:
        recipe: name of the recipe, or a whole recipe as JSON; a constant of the compiled YAML.
        images: JSON, name of an image -> reference by digest; a constant as well.
        place: called with every task and its name; says where its pod runs and what it is given.
    """

    recipe: str
    images: str
    place: Callable[[Task, str], None]


def build(pipeline: str, recipe: str, cluster: OnCluster | None = None) -> Any:
    """The KFP pipeline object of a pipeline and a recipe.

    Args:
        pipeline: `data`, `train`, `evaluate` or `full`.
        recipe: the name that the recipe gives itself; on this machine the default of the input `recipe`.
        cluster: what a cluster needs beside; None for this machine.

    Raises:
        ZoetropeError: there is no such pipeline.
    """
    if pipeline not in PIPELINES:
        raise ZoetropeError(f"unknown pipeline {pipeline!r}", f"pipelines: {', '.join(PIPELINES)}")
    inputs = local_inputs(pipeline, recipe) if cluster is None else cluster_inputs(pipeline)
    place = cluster.place if cluster is not None else lambda task, name: None

    def body(*values: Any) -> None:
        given = {each.name: value for each, value in zip(inputs, values, strict=True)}
        with nullcontext() if cluster is None else _exit_handler(place):
            products = {kind: given.pop(kind) for kind in starts_from(pipeline) if kind != "dataset"}
            constants = {} if cluster is None else _constants(cluster, pipeline)
            resolved = _add(resolve(**constants, **given), "resolve", place, cached=False)
            if "dataset" in given:
                products["dataset"] = resolved.outputs["dataset_version"]
            _add_steps(pipeline, resolved.outputs, products, place)

    # KFP reads the inputs of a pipeline from the signature and the docstring of its function.
    body.__name__ = pipeline
    body.__signature__ = inspect.Signature([each.parameter() for each in inputs])  # type: ignore[attr-defined]
    summary = PIPELINE_ROWS[pipeline].summary
    body.__doc__ = docstring(summary, inputs)
    name = f"zoetrope-{recipe}-{pipeline}".replace("_", "-")
    return dsl.pipeline(name=name, description=f"{summary}, recipe {recipe}.")(body)


def _add_steps(
    pipeline: str, jobs: Mapping[str, Any], products: dict[str, Any], place: Callable[[Task, str], None]
) -> None:
    """Adds the steps of a pipeline in their order.

    Args:
        pipeline: name of the pipeline.
        jobs: step -> its job.
        products: kind -> reference of what the run starts from; the products of the steps are added.
        place: as in `OnCluster`.
    """
    records: dict[str, Any] = {}
    for name in PIPELINES[pipeline]:
        row = STEPS[name]
        given = {parameter: _input(row, parameter, products, records) for parameter in row.inputs}
        task = _add(load(row.component)(job=jobs[name], **given), name, place, cached=row.cached)
        task.set_display_name(name)
        products[row.makes] = task.outputs["product"]
        records[name] = task.outputs["record"]


def _input(row: StepRow, parameter: str, products: Mapping[str, Any], records: Mapping[str, Any]) -> Any:
    """What a parameter of a step is given: the last product of its kind, or the records of all steps before."""
    kind = row.inputs[parameter]
    if kind == RECORDS:
        return dict(records)
    return products.get(kind, "") if parameter in row.optional else products[kind]


def _add(task: Task, name: str, place: Callable[[Task, str], None], *, cached: bool) -> Task:
    task.set_caching_options(cached)
    place(task, name)
    return task


def _exit_handler(place: Callable[[Task, str], None]) -> Any:
    """The exit task, which runs however the steps end."""
    return dsl.ExitHandler(_add(finish(), "finish", place, cached=False), name="steps")


def _constants(cluster: OnCluster, pipeline: str) -> dict[str, str]:
    return {"recipe": cluster.recipe, "pipeline": pipeline, "images": cluster.images}
