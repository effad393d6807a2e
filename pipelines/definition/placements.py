"""Recipe to placements: which steps launch jobs on a cluster, of how many pods, with what."""

from __future__ import annotations

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.placement import PLAIN, TORCH_CPU, TORCH_GPU, Placement
from zoetrope.pipelines.definition.step_table import STEPS
from zoetrope.pipelines.recipe.recipe import Recipe


def placements(recipe: Recipe) -> dict[str, Placement]:
    """Step -> where its job runs, for every step that launches one; the image is named where the pod is made.

    What `resources` gives a step is divided among its pods.

    Raises:
        ZoetropeError: a training's world size, or a step's GPUs, do not divide among its pods.
    """
    found = {}
    for step, row in STEPS.items():
        if row.kind == "fans_out":
            found[step] = _data_job(recipe, step)
        elif row.kind == "launches":
            found[step] = _training(recipe, step)
    return found


def _data_job(recipe: Recipe, step: str) -> Placement:
    workers: int = getattr(recipe.settings_of(step), "workers", 1)
    return _placement(recipe, step, workers).model_copy(update={"runtime": PLAIN})


def _training(recipe: Recipe, step: str) -> Placement:
    world: int = getattr(recipe.settings_of(step), "workers", recipe.model.workers)
    nodes = min(recipe.cluster.training_nodes, world)
    if world % nodes:
        raise ZoetropeError(
            f"cluster.training_nodes: {step} has {world} workers, which do not divide among {nodes} nodes",
            "results depend on the number of workers; change training_nodes",
        )
    place = _placement(recipe, step, nodes)
    runtime = TORCH_GPU if place.gpus else TORCH_CPU
    return place.model_copy(update={"runtime": runtime, "processes_per_node": world // nodes})


def _placement(recipe: Recipe, step: str, nodes: int) -> Placement:
    held, cluster = recipe.resources[step], recipe.cluster
    if held.gpus % nodes:
        raise ZoetropeError(
            f"resources.{step}.gpus: {held.gpus} GPUs do not divide among {nodes} pods", "change the one or the other"
        )
    cpu = held.cpu / nodes
    place = cluster.place(step)
    return Placement(
        nodes=nodes,
        cpu=cpu,
        cpu_request=cpu * cluster.cpu_request_share,
        memory_gb=held.memory_gb / nodes,
        gpus=held.gpus // nodes,
        gpu_resource=cluster.gpu_resource,
        gpu_kind=held.gpu_kind,
        queue=cluster.queue,
        node_selector=place.node_selector,
        tolerations=place.tolerations,
        schedule_timeout=cluster.schedule_timeout,
        deadline=cluster.job_deadline,
    )
