"""Runs as the API of Kubeflow Pipelines tells of them, corrected by what else can be asked."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from zoetrope.infra.errors import ServiceError, ZoetropeError
from zoetrope.infra.runs import RunFiles
from zoetrope.pipelines.kubeflow.client import Kubeflow
from zoetrope.pipelines.kubeflow.tasks import TaskPlace, attempts, task_places
from zoetrope.pipelines.kubeflow.views import ENDED, RunView, StepView, seconds_between
from zoetrope.pipelines.kubeflow.workflow import RunSources, step_views, workflow_nodes

_WORDS = {"RUNTIME_STATE_UNSPECIFIED": "waiting", "": "waiting", "PENDING": "waiting", "CANCELED": "cancelled"}
_FINAL = frozenset({"succeeded", "reused", "failed", "skipped", "cancelled"})
_PREFIX = "zoetrope-"


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
        _name_end(run)
        if everything or name.startswith(_PREFIX):
            found.append(_view(run, name, ()))
        if len(found) >= limit:
            break
    return found[::-1]


def _name_end(run: Any) -> None:
    """A run that somebody terminated becomes `CANCELED`: KFP 2.17 ends it as one that failed, its history knows."""
    before = [entry.state for entry in run.state_history or [] if entry.state][-2:-1]
    if run.state == "FAILED" and before == ["CANCELING"]:
        run.state = "CANCELED"


def get_run(kubeflow: Kubeflow, run_id: str, sources: RunSources | None = None) -> RunView:
    """One run with its steps.

    Args:
        kubeflow: the connection.
        run_id: the run.
        sources: what knows more of the steps than KFP's API, which loses sight of them when a run is long.

    Raises:
        ZoetropeError: there is no such run.
    """
    sources = sources or RunSources()
    run = read_run(kubeflow, run_id)
    _name_end(run)
    spec = run_spec(kubeflow, run)
    places = task_places(spec)
    workflow = sources.workflow(run_id) or kubeflow.workflow(run_id) or {}
    run_files = sources.run_files(run_id)
    if nodes := workflow_nodes(workflow):
        steps = step_views(places, nodes, str(run.state))
    else:
        steps = _corrected(_steps(run, places), run, run_files)
    if run.state in ENDED and run_files is not None:
        steps = _with_reused(steps, run_files)
    return _view(run, str(spec.get("pipelineInfo", {}).get("name", "")), tuple(steps))


def read_run(kubeflow: Kubeflow, run_id: str) -> Any:
    """KFP's own object of a run."""
    try:
        return kubeflow.call("runs", "run_service_get_run", run_id=run_id)
    except ServiceError as error:
        if not error.not_found:
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
        except ServiceError as error:
            if not error.not_found:  # a version may be deleted while its runs stay
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
        except ServiceError as error:
            if not error.not_found:
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
        seconds=seconds_between(created, finished),
        description=run.description or "",
        error=_error(run.error),
        steps=steps,
        parameters=(run.runtime_config.parameters if run.runtime_config else None) or {},
    )


def _steps(run: Any, places: list[TaskPlace]) -> list[StepView]:
    details = _details(run)
    children = {child.pod_name for detail in details for child in detail.child_tasks or [] if child.pod_name}
    by_name: dict[str, list[Any]] = {}
    for detail in details:
        by_name.setdefault(str(detail.display_name), []).append(detail)
    return [_step(place, by_name.get(place.key, []), children, run) for place in places]


def _details(run: Any) -> list[Any]:
    return (run.run_details.task_details if run.run_details else None) or []


def _corrected(steps: list[StepView], run: Any, run_files: RunFiles | None) -> list[StepView]:
    """What KFP says, which may be old, with what the steps themselves left in the store."""
    done: set[str] = set()
    if run_files is not None:
        try:
            done = set(run_files.steps())
        except ZoetropeError:
            run_files = None
    # Tasks that go on although the run has ended: KFP lost sight of them, and may never have seen others.
    old = run.state in ENDED and any(_word(each.state) not in _FINAL for each in _details(run) if each.display_name)
    return [
        step if step.state in _FINAL else _corrected_step(step, step.step in done, run_files, str(run.state), old=old)
        for step in steps
    ]


def _with_reused(steps: list[StepView], run_files: RunFiles) -> list[StepView]:
    """A step that found its result in the store has a pod that succeeded; only the run record knows better."""
    try:
        record = run_files.record()
    except ZoetropeError:
        record = None
    reused = {step for step, each in record.steps.items() if each.status == "reused"} if record is not None else set()
    return [
        replace(each, state="reused") if each.state == "succeeded" and each.step in reused else each for each in steps
    ]


def _corrected_step(step: StepView, done: bool, run_files: RunFiles | None, run_state: str, *, old: bool) -> StepView:
    if done or run_state == "SUCCEEDED":
        return replace(step, state="succeeded", seconds=None)
    said = run_files.verdicts.get(step.step) if run_files is not None and run_state in ENDED else None
    if said is not None:
        return replace(step, state="failed", seconds=None, error=said.headline)
    return replace(step, state="unknown", seconds=None) if old else step


def _step(place: TaskPlace, details: list[Any], children: set[str], run: Any) -> StepView:
    if not details:
        return StepView(place.step, "not started" if run.state in ENDED else "waiting", None, 0)
    detail = details[-1]
    tries = attempts(place, children)
    state = _word(detail.state)
    if state == "succeeded" and place.retries and not tries:
        state = "reused"
    seconds = seconds_between(_time(detail.start_time), _time(detail.end_time))
    return StepView(place.step, state, seconds, tries, _error(detail.error))


def _word(state: Any) -> str:
    return _WORDS.get(str(state or ""), str(state).lower())


def _error(status: Any) -> str:
    return " ".join(str(status.message).split()) if status is not None and status.message else ""


def _time(value: datetime | None) -> datetime | None:
    """A time of the API; it writes the year 1970 where there is none."""
    return value if value is not None and value.year > 1970 else None
