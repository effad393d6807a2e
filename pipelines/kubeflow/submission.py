"""Submits a compiled pipeline: pipeline, version named by commit and content, experiment, run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from zoetrope.infra.errors import ServiceError, ZoetropeError
from zoetrope.infra.redact import redacted
from zoetrope.pipelines.kubeflow.client import Kubeflow

MANAGED = {"managed-by": "zoetrope"}
_NUMBERS = {"NUMBER_DOUBLE": float, "NUMBER_INTEGER": int}


@dataclass(frozen=True)
class Package:
    """A compiled pipeline, ready to be uploaded.

    Attributes:
        path: the YAML.
        name: of the pipeline.
        version: `COMMIT-DIGEST`, 12 digits each, so that equal YAML of one commit is uploaded once.
        spec: the pipeline specification.
        digest: SHA-256 of the YAML.
        commit: of the code, with `+dirty` where the tree differs.
    """

    path: Path
    name: str
    version: str
    spec: Mapping[str, Any]
    digest: str
    commit: str

    @classmethod
    def read(cls, path: Path, commit: str) -> Package:
        """Reads what `zoetrope compile --target cluster` wrote."""
        data = path.read_bytes()
        spec = next(yaml.safe_load_all(data))
        digest = hashlib.sha256(data).hexdigest()
        label, _, dirty = commit.partition("+")
        version = f"{label[:12] or 'no-commit'}{'-dirty' if dirty else ''}-{digest[:12]}"
        return cls(path, str(spec["pipelineInfo"]["name"]), version, spec, digest, commit)

    @property
    def inputs(self) -> dict[str, Mapping[str, Any]]:
        """Name -> definition of the inputs that the form of the UI shows."""
        found: dict[str, Mapping[str, Any]] = self.spec["root"].get("inputDefinitions", {}).get("parameters", {})
        return found

    @property
    def description(self) -> str:
        """Markdown: what the pipeline does and what its inputs mean, which KFP 2.17 shows nowhere else."""
        said = {name: " ".join(str(each.get("description", "")).split()) for name, each in self.inputs.items()}
        lines = [f"- `{name}`: {text}" for name, text in said.items()]
        return "\n".join([str(self.spec["pipelineInfo"].get("description", "")), "", *lines]).strip()

    @property
    def images(self) -> list[str]:
        """The images of all steps."""
        executors = self.spec.get("deploymentSpec", {}).get("executors", {}).values()
        return sorted({str(each["container"]["image"]) for each in executors if "container" in each})


@dataclass(frozen=True)
class Submission:
    """What will be created.

    Attributes:
        package: the pipeline.
        parameters: inputs of the run.
        experiment: groups runs in the UI.
        run_name: shown in the UI.
        service_account: of the step pods.
        labels: what people look for later: recipe, commit, who; written into the run's description and the tags of
            the pipeline version, as KFP's runs have no labels of their own.
    """

    package: Package
    parameters: Mapping[str, Any]
    experiment: str
    run_name: str
    service_account: str
    labels: Mapping[str, str] = field(default_factory=dict)

    def description(self) -> str:
        """Of the run: one `name: value` line per label."""
        return "\n".join(f"{name}: {redacted(value)}" for name, value in self.labels.items() if value)


def arguments(package: Package, given: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs of a run from what a person gave, in the types that the pipeline declares.

    Raises:
        ZoetropeError: the pipeline has no such input, or one that it needs was not given.
    """
    declared = package.inputs
    named = {name: value for name, value in given.items() if value is not None}
    for name, value in named.items():
        # Not to promote is what a pipeline does that has no such input.
        if name not in declared and value not in ("", False) and name != "promote_when_green":
            raise ZoetropeError(
                f"pipeline {package.name} has no input {name!r}", f"its inputs: {', '.join(sorted(declared)) or 'none'}"
            )
    for name, definition in declared.items():
        if name not in named and not definition.get("isOptional") and "defaultValue" not in definition:
            raise ZoetropeError(f"pipeline {package.name} needs the input {name!r}", str(definition.get("description")))
    return {name: _typed(value, declared[name]) for name, value in named.items() if name in declared}


def _typed(value: Any, definition: Mapping[str, Any]) -> Any:
    convert = _NUMBERS.get(str(definition.get("parameterType")))
    if convert is not None:
        return convert(value)
    return str(value) if definition.get("parameterType") == "STRING" else value


def find_version(kubeflow: Kubeflow, package: Package) -> tuple[str, str]:
    """Ids of the pipeline and of this version of it; each empty where it is not there.

    Raises:
        ZoetropeError: a version of that name is there and was made from another YAML.
    """
    pipeline = kubeflow.by_name(
        lambda where: kubeflow.pages(
            "pipelines", "pipeline_service_list_pipelines", "pipelines", filter=where, namespace=kubeflow.namespace
        ),
        package.name,
    )
    if pipeline is None:
        return "", ""
    version = kubeflow.by_name(
        lambda where: kubeflow.pages(
            "pipelines", "pipeline_service_list_pipeline_versions", "pipeline_versions",
            pipeline_id=pipeline.pipeline_id, filter=where,
        ),
        package.version,
    )  # fmt: skip
    if version is None:
        return pipeline.pipeline_id, ""
    if _content(version.pipeline_spec) != _content(package.spec):
        raise ZoetropeError(
            f"name clash: version {package.version} of pipeline {package.name} holds another pipeline",
            "somebody uploaded it under that name; delete or rename it in the UI",
        )
    return pipeline.pipeline_id, version.pipeline_version_id


def _content(spec: Mapping[str, Any] | None) -> Any:
    """What makes two specifications the same pipeline, free of what a server may add."""
    inner = (spec or {}).get("pipeline_spec", spec) or {}
    executors = inner.get("deploymentSpec", {}).get("executors", {})
    return (
        inner.get("pipelineInfo", {}).get("name"),
        sorted(inner.get("components", {})),
        sorted((name, str(each.get("container", {}).get("image"))) for name, each in executors.items()),
    )


def find_experiment(kubeflow: Kubeflow, name: str) -> str:
    """Id of an experiment, empty where there is none; raises ZoetropeError where it is archived."""
    found = kubeflow.by_name(
        lambda where: kubeflow.pages(
            "experiments", "experiment_service_list_experiments", "experiments",
            filter=where, namespace=kubeflow.namespace,
        ),
        name,
    )  # fmt: skip
    if found is None:
        return ""
    if str(found.storage_state) == "ARCHIVED":
        raise ZoetropeError(
            f"name clash: the experiment {name!r} is archived", "restore it in the UI, or give --experiment NAME"
        )
    return str(found.experiment_id)


def submit(kubeflow: Kubeflow, submission: Submission) -> str:
    """Creates what is missing, then the run; returns the run's id."""
    package = submission.package
    pipeline_id, version_id = find_version(kubeflow, package)
    experiment_id = find_experiment(kubeflow, submission.experiment)
    models = kubeflow.models
    if not pipeline_id:
        pipeline_id = _create_pipeline(kubeflow, package)
    if not version_id:
        version_id = _upload(kubeflow, submission, pipeline_id)
    if not experiment_id:
        experiment_id = _create_experiment(kubeflow, submission.experiment)
    run = models.V2beta1Run(
        experiment_id=experiment_id,
        display_name=submission.run_name,
        description=submission.description(),
        pipeline_version_reference=models.V2beta1PipelineVersionReference(
            pipeline_id=pipeline_id, pipeline_version_id=version_id
        ),
        runtime_config=models.V2beta1RuntimeConfig(parameters=dict(submission.parameters)),
        service_account=submission.service_account,
    )
    return str(kubeflow.call("runs", "run_service_create_run", run=run).run_id)


def _create_pipeline(kubeflow: Kubeflow, package: Package) -> str:
    body = kubeflow.models.V2beta1Pipeline(
        name=package.name,
        display_name=package.name,
        description=package.description,
        namespace=kubeflow.namespace,
    )
    try:
        return str(kubeflow.call("pipelines", "pipeline_service_create_pipeline", pipeline=body).pipeline_id)
    except ServiceError as error:
        found = find_version(kubeflow, package)[0] if error.conflict else ""
        if not found:
            raise
        return found  # another submission has just created it


def _create_experiment(kubeflow: Kubeflow, name: str) -> str:
    body = kubeflow.models.V2beta1Experiment(display_name=name, description="zoetrope", namespace=kubeflow.namespace)
    try:
        made = kubeflow.call("experiments", "experiment_service_create_experiment", experiment=body)
        return str(made.experiment_id)
    except ServiceError as error:
        found = find_experiment(kubeflow, name) if error.conflict else ""
        if not found:
            raise
        return found  # another submission has just created it


def _upload(kubeflow: Kubeflow, submission: Submission, pipeline_id: str) -> str:
    package = submission.package
    try:
        version = kubeflow.call(
            "pipeline_uploads",
            "upload_pipeline_version",
            uploadfile=str(package.path),
            name=package.version,
            pipelineid=pipeline_id,
            description=submission.description(),
            tags=json.dumps(_tags({**MANAGED, "commit": package.commit[:12], "sha256": package.digest[:12]})),
        )
    except ServiceError as error:
        if not error.conflict:
            raise
        # Somebody else has just uploaded the same one.
        return find_version(kubeflow, package)[1]
    return str(version.pipeline_version_id)


def _tags(labels: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in labels.items() if value}


def plan(kubeflow: Kubeflow, submission: Submission) -> Sequence[dict[str, str]]:
    """What `submit` would do, as rows for a table; creates nothing."""
    package = submission.package
    pipeline_id, version_id = find_version(kubeflow, package)
    experiment_id = find_experiment(kubeflow, submission.experiment)

    def row(what: str, name: str, found: str) -> dict[str, str]:
        return {"what": what, "name": name, "would": "be used, it is there" if found else "be created"}

    return [
        row("pipeline", package.name, pipeline_id),
        row("version", package.version, version_id),
        row("experiment", submission.experiment, experiment_id),
        row("run", submission.run_name, ""),
    ]
