"""Runs as the API of Kubeflow Pipelines tells of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from zoetrope.infra.errors import ZoetropeError
from zoetrope.pipelines.cluster.client import Kubeflow, not_there
from zoetrope.pipelines.cluster.nodes import Node, newest, pods, terminated, workflow_nodes
from zoetrope.pipelines.cluster.tasks import TaskPlace, attempts, task_places

ENDED = frozenset({"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"})
_WORDS = {"RUNTIME_STATE_UNSPECIFIED": "waiting", "": "waiting", "PENDING": "waiting", "CANCELED": "cancelled"}
_PHASES = {
    "Succeeded": "succeeded", "Failed": "failed", "Error": "failed", "Running": "running", "Pending": "waiting",
    "Skipped": "skipped",
}  # fmt: skip
_STOPPED = ("exceeded workflow deadline", "Stopped with strategy")
_PREFIX = "zoetrope-"


@dataclass(frozen=True)
class StepView:
    """One step of a run.

    Attributes:
        step: its name.
        state: `waiting`, `running`, `succeeded`, `cached`, `failed`, `skipped`, `cancelled`.
        seconds: since it started, or of its whole run; None before.
        attempts: containers started; 0 for an answer from the cache.
        error: what KFP says; the step's own message is in its log and verdict.
    """

    step: str
    state: str
    seconds: float | None
    attempts: int
    error: str = ""


@dataclass(frozen=True)
class RunView:
    """One run.

    Attributes:
        run_id: KFP's id, which is the run id everywhere.
        name: shown in the UI.
        pipeline: name of the pipeline, where it is known.
        state: as of a step.
        created: when it was submitted.
        seconds: so far.
        description: what the submission wrote down.
        error: what KFP says of a failed run.
        steps: in the order of the pipeline.
        parameters: inputs of the run.
    """

    run_id: str
    name: str
    pipeline: str
    state: str
    created: datetime | None
    seconds: float | None
    description: str = ""
    error: str = ""
    steps: tuple[StepView, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self.state in ("succeeded", "failed", "cancelled", "skipped")


def list_runs(kubeflow: Kubeflow, limit: int, *, everything: bool = False) -> list[RunView]:
    """The newest runs, newest last.

    Args:
        kubeflow: the connection.
        limit: how many at most.
        everything: runs of other people's pipelines as well.
    """
    names: dict[str, str] = {}
    found: list[RunView] = []
    pages = kubeflow.pages(
        "runs", "run_service_list_runs", "runs", sort_by="created_at desc", namespace=kubeflow.namespace
    )
    for run in pages:
        name = _pipeline_name(kubeflow, run, names)
        if everything or name.startswith(_PREFIX):
            found.append(_view(run, name, ()))
        if len(found) >= limit:
            break
    return found[::-1]


def get_run(kubeflow: Kubeflow, run_id: str) -> RunView:
    """One run with its steps; raises ZoetropeError where there is none."""
    run = read_run(kubeflow, run_id)
    spec, workflow = run_spec(kubeflow, run), kubeflow.workflow(run_id) or {}
    if run.state == "FAILED" and terminated(workflow):  # KFP 2.17 calls it failed once Argo has ended it
        run.state = "CANCELED"
    return _view(run, str(spec.get("pipelineInfo", {}).get("name", "")), tuple(_steps(run, spec, workflow)))


def read_run(kubeflow: Kubeflow, run_id: str) -> Any:
    """KFP's own object of a run."""
    try:
        return kubeflow.call("runs", "run_service_get_run", run_id=run_id)
    except ZoetropeError as error:
        if not not_there(error):
            raise
        raise ZoetropeError(
            f"no run {run_id} at {kubeflow.settings.host}", "`zoetrope runs list --host URL` shows what there is"
        ) from error


def run_spec(kubeflow: Kubeflow, run: Any) -> dict[str, Any]:
    """The pipeline specification of a run: its own, or that of its pipeline version."""
    spec = run.pipeline_spec
    reference = run.pipeline_version_reference
    if not spec and reference is not None and reference.pipeline_version_id:
        try:
            version = kubeflow.call(
                "pipelines", "pipeline_service_get_pipeline_version",
                pipeline_id=reference.pipeline_id, pipeline_version_id=reference.pipeline_version_id,
            )  # fmt: skip
        except ZoetropeError as error:
            if not not_there(error):  # a version may be deleted while its runs stay
                raise
            return {}
        spec = version.pipeline_spec
    spec = spec or {}
    return dict(spec.get("pipeline_spec", spec))


def _pipeline_name(kubeflow: Kubeflow, run: Any, names: dict[str, str]) -> str:
    reference = run.pipeline_version_reference
    if run.pipeline_spec or reference is None:
        spec = run.pipeline_spec or {}
        return str(spec.get("pipeline_spec", spec).get("pipelineInfo", {}).get("name", ""))
    key = str(reference.pipeline_id)
    if key not in names:
        try:
            pipeline = kubeflow.call("pipelines", "pipeline_service_get_pipeline", pipeline_id=key)
            names[key] = str(getattr(pipeline, "name", None) or pipeline.display_name)
        except ZoetropeError as error:
            if not not_there(error):
                raise
            names[key] = ""
    return names[key]


def _view(run: Any, pipeline: str, steps: tuple[StepView, ...]) -> RunView:
    created, finished = _time(run.created_at), _time(run.finished_at)
    return RunView(
        run_id=run.run_id,
        name=run.display_name or "",
        pipeline=pipeline,
        state=_word(run.state),
        created=created,
        seconds=_seconds(created, finished),
        description=run.description or "",
        error=_error(run.error),
        steps=steps,
        parameters=(run.runtime_config.parameters if run.runtime_config else None) or {},
    )


def _steps(run: Any, spec: Mapping[str, Any], workflow: Mapping[str, Any]) -> list[StepView]:
    places = task_places(spec)
    try:
        nodes = workflow_nodes(workflow)
    except ValueError:  # of a form that we do not know
        nodes = []
    if nodes:
        return [_step_of_nodes(place, nodes, run) for place in places]
    details = (run.run_details.task_details if run.run_details else None) or []
    children = {child.pod_name for detail in details for child in detail.child_tasks or [] if child.pod_name}
    by_name = {str(detail.display_name): detail for detail in details}
    return [_step_of_details(place, by_name.get(place.key), children, run) for place in places]


def _step_of_nodes(place: TaskPlace, nodes: Sequence[Node], run: Any) -> StepView:
    node, driver = newest(nodes, place.path), newest(nodes, place.driver)
    tries = pods(nodes, place.executor)
    if node is None or node.start is None or node.phase == "Omitted":
        if driver is not None and _PHASES.get(driver.phase) == "failed":
            return StepView(place.step, "failed", _seconds(driver.start, driver.end), 0, driver.message)
        return _not_begun(place, run)
    state = _PHASES.get(node.phase, node.phase.lower())
    if state == "succeeded" and not tries:
        state = "cached"
    if state == "failed" and run.state == "CANCELED" and any(words in node.message for words in _STOPPED):
        state = "cancelled"
    return StepView(place.step, state, _seconds(node.start, node.end), tries, node.message)


def _step_of_details(place: TaskPlace, detail: Any, children: set[str], run: Any) -> StepView:
    if detail is None or not detail.state:
        return _not_begun(place, run)
    tries = attempts(place, children)
    state = _word(detail.state)
    if state == "succeeded" and place.retries and not tries:
        state = "cached"
    start, end = _time(detail.start_time), _time(detail.end_time)
    return StepView(place.step, state, _seconds(start, end), tries, _error(detail.error))


def _not_begun(place: TaskPlace, run: Any) -> StepView:
    return StepView(place.step, "not started" if run.state in ENDED else "waiting", None, 0)


def _word(state: Any) -> str:
    return _WORDS.get(str(state or ""), str(state).lower())


def _error(status: Any) -> str:
    return " ".join(str(status.message).split()) if status is not None and status.message else ""


def _time(value: datetime | None) -> datetime | None:
    """A time of the API; it writes the year 1970 where there is none."""
    return value if value is not None and value.year > 1970 else None


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    if start is None:
        return None
    return max(((end or datetime.now(UTC)) - start).total_seconds(), 0.0)
