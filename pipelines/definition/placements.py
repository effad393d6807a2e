"""Recipe to placements: which steps launch jobs on a cluster, of how many pods, with what."""

from __future__ import annotations

from collections.abc import Mapping

from zoetrope.components.images import CORE, TRAIN
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.placement import PLAIN, TORCH_CPU, TORCH_GPU, Placement
from zoetrope.pipelines.definition.step_table import TRAIN_STEPS
from zoetrope.pipelines.recipe.recipe import Recipe

DATA_JOBS = {"ingest": CORE, "curate": CORE, "caption": CORE, "encode": TRAIN}
"""Steps whose work is done by N replicas on the plain runtime, and the image of these."""
TRAINING_JOBS = ("autoencoder", *TRAIN_STEPS)


def job_images() -> dict[str, str]:
    """Step -> name of the image of the job that it launches."""
    return {**DATA_JOBS, **dict.fromkeys(TRAINING_JOBS, TRAIN)}


def placements(recipe: Recipe, images: Mapping[str, str]) -> dict[str, Placement]:
    """Step -> where its job runs, for every step that launches one.

    What `resources` gives a step is divided among its pods.

    Args:
        recipe: resolved.
        images: name of an image -> reference by digest.

    Raises:
        ZoetropeError: a training's world size does not divide among its nodes.
    """
    found = {step: _data_job(recipe, step, images[image]) for step, image in DATA_JOBS.items()}
    return found | {step: _training(recipe, step, images[TRAIN]) for step in TRAINING_JOBS}


def _data_job(recipe: Recipe, step: str, image: str) -> Placement:
    workers: int = getattr(getattr(recipe, step), "workers", 1)
    return _placement(recipe, step, image, workers).model_copy(update={"runtime": PLAIN})


def _training(recipe: Recipe, step: str, image: str) -> Placement:
    world = recipe.autoencoder.workers if step == "autoencoder" else recipe.model.workers
    nodes = min(recipe.cluster.training_nodes, world)
    if world % nodes:
        raise ZoetropeError(
            f"cluster.training_nodes: {step} has {world} workers, which do not divide among {nodes} nodes",
            "results depend on the number of workers; change training_nodes",
        )
    place = _placement(recipe, step, image, nodes)
    runtime = TORCH_GPU if place.gpus else TORCH_CPU
    return place.model_copy(update={"runtime": runtime, "processes_per_node": world // nodes})


def _placement(recipe: Recipe, step: str, image: str, nodes: int) -> Placement:
    held, cluster = recipe.resources[step], recipe.cluster
    if held.gpus % nodes:
        raise ZoetropeError(
            f"resources.{step}.gpus: {held.gpus} GPUs do not divide among {nodes} pods", "change the one or the other"
        )
    cpu = held.cpu / nodes
    place = cluster.place(step)
    return Placement(
        image=image,
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
