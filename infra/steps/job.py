"""A step's job: what `resolve` hands to the step through one KFP parameter."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import Field

from zoetrope.infra.config import StrictModel, without
from zoetrope.infra.context import StepContext, StepResult
from zoetrope.infra.keys import KeyParts
from zoetrope.infra.placement import placement_of
from zoetrope.infra.references import Reference, canonical_json
from zoetrope.infra.settings import Settings
from zoetrope.infra.steps.execute import execute
from zoetrope.infra.steps.outputs import Artifact, Outputs


class StepJob(StrictModel):
    """One step, resolved.

    Attributes:
        step: name of the step in the run, e.g. `stage_2`.
        config: the step's configuration, complete.
        neutral: paths in `config` (`filters.text.workers`) that shape no bytes and are no part of the step key.
        operators: module -> digest of its code; empty for a step whose result is never used again.
        libraries: distribution -> version.
        content: recipe key -> digest of what the step reads that no reference covers.
        origin: the run that the result comes from: an earlier one where `resolve` found the result whole, else this
            one. It makes KFP's own cache, which keys this text, answer with what is known to be there and with
            nothing else.
    """

    step: str
    config: dict[str, Any]
    neutral: tuple[str, ...] = ()
    operators: dict[str, str] = Field(default_factory=dict)
    libraries: dict[str, str] = Field(default_factory=dict)
    content: dict[str, str] = Field(default_factory=dict)
    origin: str = ""

    def text(self) -> str:
        """Canonical JSON: equal jobs are equal strings, and so equal keys of KFP's cache."""
        return canonical_json(self.model_dump(mode="json")).decode()

    def parts(self, inputs: Mapping[str, str]) -> KeyParts | None:
        """The step key, part by part; None for a step whose result is never used again.

        Args:
            inputs: name -> reference string of what the step reads.
        """
        if not self.operators:
            return None
        return KeyParts(
            step=self.step,
            config=without(self.config, self.neutral),
            inputs={name: Reference.parse(text).digest for name, text in inputs.items() if text},
            operators=self.operators,
            libraries=self.libraries,
            content=self.content,
        )


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
        parts=parsed.parts(inputs or {}),
        outputs=Outputs(page, metrics, files),
        placement=placement_of(Settings(), parsed.step, task_config),
    )
