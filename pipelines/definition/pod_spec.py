"""What a task is given on a cluster: image by digest, resources, secrets by name, retries, time limit, environment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from kfp import kubernetes

from zoetrope.infra.placement import Placement
from zoetrope.infra.store import schemes
from zoetrope.pipelines.definition.resolved import Resolved
from zoetrope.pipelines.definition.step_table import STEPS, Kind

SETTINGS_CONFIG_MAP = "zoetrope-settings"
STORE_SECRET = "zoetrope-store"  # noqa: S105 - a name
GIT_SECRET = "zoetrope-git"  # noqa: S105 - a name
SETTINGS_KEYS = (
    "ZOETROPE_STORE",
    *schemes.settings_keys(),
    "ZOETROPE_TRACKING_URI",
    "ZOETROPE_TRACKING_URL",
    "ZOETROPE_KUBEFLOW_URL",
    "ZOETROPE_DATASET_REMOTE",
    "ZOETROPE_EXPERIMENT",
    "ZOETROPE_PRICE_PROVIDER",
)
STORE_KEYS = schemes.secret_keys()
FIELDS = {
    "ZOETROPE_RUN_ID": "metadata.labels['pipeline/runid']",
    "ZOETROPE_WORKFLOW": "metadata.labels['workflows.argoproj.io/workflow']",
    "ZOETROPE_NAMESPACE": "metadata.namespace",
    "ZOETROPE_POD": "metadata.name",
}
RUN_DIRECTORY = "/tmp/zoetrope/runs/current"  # noqa: S108 - an emptyDir of the pod
USER = 1000
CONTROL_CPU, CONTROL_MEMORY = ("50m", "1"), ("256Mi", "2Gi")
"""Request and limit of pods that launch, merge and file."""


class ClusterTasks:
    """Prepares the tasks of one recipe.

    Args:
        resolved: the recipe and where its jobs run.
        images: name of an image -> reference by digest.
        commit: of the code that is compiled; empty where it is not known.
    """

    def __init__(self, resolved: Resolved, images: Mapping[str, str], commit: str) -> None:
        self.recipe, self.images, self.commit = resolved.recipe, images, commit
        self.placements = {
            step: place.model_copy(update={"image": images[STEPS[step].image]})
            for step, place in resolved.placements.items()
        }

    def place(self, task: Any, step: str) -> None:
        """Says where the pod of a task runs and what it is given."""
        image = self.images[task.container_spec.image]
        task.set_container_image(image)
        self._environment(task, step, image)
        self._resources(task, step)
        cluster = self.recipe.cluster
        kubernetes.set_image_pull_policy(task, "IfNotPresent")
        kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
        kubernetes.empty_dir_mount(task, volume_name="scratch", mount_path="/tmp")  # noqa: S108 - the pod's own
        kubernetes.set_timeout(task, cluster.step_timeout)
        kubernetes.add_pod_label(task, "app.kubernetes.io/part-of", "zoetrope")
        kubernetes.add_pod_label(task, "zoetrope/step", step)
        # An infrastructure failure is repeated; a step that failed permanently leaves a verdict and ends at once then.
        # The last argument is not the longest wait but how long KFP goes on repeating, the work itself included.
        task.set_retry(cluster.retries, f"{cluster.retry_seconds}s", 2.0, f"{cluster.step_timeout}s")

    def _environment(self, task: Any, step: str, image: str) -> None:
        values = {
            "ZOETROPE_CLUSTER": "true",
            "ZOETROPE_RUN_DIRECTORY": RUN_DIRECTORY,
            "ZOETROPE_IMAGE": image,
            "ZOETROPE_COMMIT": self.commit,
            "HOME": "/tmp",  # noqa: S108
        }
        if step in self.recipe.resources:
            held = self.recipe.resources[step].model_dump(mode="json")
            values["ZOETROPE_RESOURCES"] = json.dumps({step: held}, sort_keys=True)
        if step in self.placements:
            place = self.placements[step].model_dump(mode="json", exclude_defaults=True)
            values["ZOETROPE_PLACEMENTS"] = json.dumps({step: place}, sort_keys=True)
        for name, value in values.items():
            if value:
                task.set_env_variable(name, value)
        for name, path in FIELDS.items():
            kubernetes.use_field_path_as_env(task, name, path)
        kubernetes.use_config_map_as_env(task, SETTINGS_CONFIG_MAP, {key: key for key in SETTINGS_KEYS}, optional=True)
        kubernetes.use_secret_as_env(
            task, STORE_SECRET, {key: key for key in STORE_KEYS}, optional=schemes.secrets_are_optional()
        )
        if step == "resolve":
            kubernetes.use_secret_as_env(task, GIT_SECRET, {"token": "ZOETROPE_GIT_TOKEN"}, optional=True)

    def _resources(self, task: Any, step: str) -> None:
        kind: Kind = STEPS[step].kind if step in STEPS else "inline"  # `resolve` and `finish` are no steps
        if kind == "launches":
            self._job_resources(task, self.placements[step])
        elif kind == "pod":
            self._own_resources(task, step)
        else:
            _limit(task, CONTROL_CPU, CONTROL_MEMORY)

    def _job_resources(self, task: Any, place: Placement) -> None:
        """What is set here passes through the launcher's pod to the pods of the job."""
        _limit(task, (_number(place.cpu_request or place.cpu), _number(place.cpu)), _memory(place.memory_gb))
        if place.gpus:
            task.set_accelerator_type(place.gpu_resource).set_accelerator_limit(place.gpus)
        self._nodes(task, place.node_selector, place.tolerations)

    def _own_resources(self, task: Any, step: str) -> None:
        held, cluster = self.recipe.resources[step], self.recipe.cluster
        _limit(task, (_number(held.cpu * cluster.cpu_request_share), _number(held.cpu)), _memory(held.memory_gb))
        if held.gpus:
            task.set_accelerator_type(cluster.gpu_resource).set_accelerator_limit(held.gpus)
        place = cluster.place(step)
        self._nodes(task, place.node_selector, place.tolerations)
        kubernetes.empty_dir_mount(
            task,
            volume_name="shared-memory",
            mount_path="/dev/shm",  # noqa: S108
            medium="Memory",
            size_limit=f"{round(cluster.shared_memory_gb * 1000)}M",
        )

    def _nodes(self, task: Any, selector: Mapping[str, str], tolerations: list[dict[str, Any]]) -> None:
        for key, value in selector.items():
            kubernetes.add_node_selector(task, key, value)
        for each in tolerations:
            kubernetes.add_toleration(
                task,
                key=each.get("key"),
                operator=each.get("operator"),
                value=each.get("value"),
                effect=each.get("effect"),
                toleration_seconds=each.get("tolerationSeconds"),
            )


def _limit(task: Any, cpu: tuple[str, str], memory: tuple[str, str]) -> None:
    task.set_cpu_request(cpu[0]).set_cpu_limit(cpu[1]).set_memory_request(memory[0]).set_memory_limit(memory[1])


def _memory(gigabytes: float) -> tuple[str, str]:
    """Asked for and limit: memory, unlike CPU, does not give way, so all of it is asked for."""
    text = f"{round(gigabytes * 1000)}M"  # whole numbers alone: KFP takes no 0.5G
    return text, text


def _number(cores: float) -> str:
    return f"{round(cores * 1000)}m"
