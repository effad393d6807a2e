"""The inputs of a pipeline: what `zoetrope run` hands over on this machine, and the form in the UI of a cluster.

They follow from the step table: from what a pipeline starts and whether it promotes.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from zoetrope.pipelines.definition.step_table import PIPELINE_ROWS, PIPELINES, STEPS, starts_from


@dataclass(frozen=True)
class FormInput:
    """One input of a pipeline.

    Attributes:
        name: of the parameter.
        description: for people; KFP takes it from the docstring.
        default: where nothing is filled in; `inspect.Parameter.empty` where that is an error.
    """

    name: str
    description: str
    default: Any = inspect.Parameter.empty

    def parameter(self) -> inspect.Parameter:
        """As a parameter of a function; the type is that of the default."""
        kind = str if self.default is inspect.Parameter.empty else type(self.default)
        return inspect.Parameter(
            self.name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=self.default, annotation=kind
        )


def local_inputs(pipeline: str, recipe: str) -> list[FormInput]:
    """Inputs on this machine.

    Args:
        pipeline: name of the pipeline.
        recipe: name of the recipe that it is compiled for.
    """
    found = [_given(kind) for kind in starts_from(pipeline)]
    found.append(FormInput("recipe", "name of the recipe.", recipe))
    found.append(FormInput("overrides", "changes of the recipe, one `path=value` per line.", ""))
    return found


def cluster_inputs(pipeline: str) -> list[FormInput]:
    """Inputs on a cluster, few and typed: each is a field of a form."""
    given = starts_from(pipeline)
    found = [_CLUSTER_DATASET if kind == "dataset" else _given(kind) for kind in given]
    if not given:
        found.append(_SOURCE)
    example = PIPELINE_ROWS[pipeline].example
    changes = f"changes of the recipe, `path=value`, several apart by `; `, e.g. {example}."
    found.append(FormInput("overrides", changes, ""))
    found.append(_BUDGET)
    if any(STEPS[step].makes == "promotion" for step in PIPELINES[pipeline]):
        found.append(_PROMOTE)
    found.append(_FRESH)
    return found


def docstring(summary: str, inputs: Sequence[FormInput]) -> str:
    """The docstring of a pipeline, as KFP reads it."""
    lines = [f"    {each.name}: {each.description}" for each in inputs]
    return "\n".join([f"{summary}.", "", "Args:", *lines])


def _given(kind: str) -> FormInput:
    article = {"dataset": "a dataset version"}.get(kind, f"a {kind}")
    return FormInput(kind, f"reference to {article}, URI@sha256:digest.")


_CLUSTER_DATASET = FormInput(
    "dataset", "tag of a dataset version (e.g. nano-v3), `latest`, or a reference URI@sha256:digest.", "latest"
)
_SOURCE = FormInput(
    "source",
    "where raw video comes from: s3://bucket/prefix with a catalogue, samples:SEED, or empty for the recipe's own.",
    "",
)
_BUDGET = FormInput("budget_usd", "the most that this run may cost, in US dollars; 0 takes the recipe's.", 0.0)
_PROMOTE = FormInput(
    "promote_when_green",
    "whether a checkpoint that passes every check becomes champion; if not, it is registered and stays candidate.",
    True,
)
_FRESH = FormInput("fresh", "whether every step is computed anew though its result is known.", False)
