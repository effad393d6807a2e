"""A step's job: what `resolve` hands to the step through one KFP parameter."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import Field

from zoetrope.infra.config import StrictModel
from zoetrope.infra.context import StepContext, StepResult
from zoetrope.infra.placement import placement_of
from zoetrope.infra.references import canonical_json
from zoetrope.infra.settings import Settings
from zoetrope.infra.steps.execute import execute
from zoetrope.infra.steps.outputs import Artifact, Outputs


class StepJob(StrictModel):
    """One step, resolved.

    Attributes:
        step: name of the step in the run, e.g. `stage_2`.
        config: the step's configuration, complete.
        code: digest of the code that the step runs.
        fingerprint: digest of what the step reads that no reference covers (a folder of videos, a file of weights);
            part of the cache key, never read by the step.
        image: image of the pods that the step launches on a cluster, by digest; part of the cache key as well.
    """

    step: str
    config: dict[str, Any]
    code: str = ""
    fingerprint: str = Field(default="")
    image: str = ""

    def text(self) -> str:
        """Canonical JSON: equal jobs are equal strings, and so equal cache keys."""
        return canonical_json(self.model_dump(mode="json")).decode()


def execute_job(
    job: str,
    work: Callable[[dict[str, Any], StepContext], StepResult],
    inputs: Mapping[str, str] | None = None,
    page: Artifact | None = None,
    metrics: Any = None,
    task_config: Any = None,
    files: Artifact | None = None,
) -> tuple[str, str]:
    """Runs a step from its job string; see `execute`.

    Args:
        job: canonical JSON of a `StepJob`.
        work: the step function: configuration (as a mapping) and context in, result out.
        inputs: name -> reference string of what the step reads.
        page: KFP's HTML artifact.
        metrics: KFP's Metrics artifact.
        task_config: KFP's TaskConfig: resources, tolerations, ... that were set on the task for the pods of its job.
        files: KFP's artifact for a folder of small files.
    """
    parsed = StepJob.model_validate_json(job)
    return execute(
        parsed.step,
        lambda context: work(parsed.config, context),
        config=json.dumps(parsed.config, sort_keys=True),
        inputs=inputs,
        code=parsed.code,
        outputs=Outputs(page, metrics, files),
        placement=placement_of(Settings(), parsed.step, task_config),
    )
