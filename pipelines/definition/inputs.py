"""The inputs of a pipeline on a cluster: few, typed, and turned into overrides of the recipe in one place."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from zoetrope.infra.errors import ZoetropeError
from zoetrope.pipelines.definition.resolved import refuse_idle_gpus
from zoetrope.pipelines.recipe.recipe import Recipe, load_recipe

_BETWEEN = re.compile(r"[\r\n]+|;\s+(?=[\w.]+=)")
"""Between two overrides; a semicolon inside a value stays where no other override begins behind it."""
_SAMPLES = re.compile(r"samples:(?P<seed>[0-9]{1,9})")
SAMPLE_RIGHTS = "rendered by zoetrope itself; no third party holds rights"


@dataclass(frozen=True)
class RunInputs:
    """What a person fills in, beside the recipe that the pipeline was compiled for.

    Attributes:
        overrides: `path=value`, one per line, or several with `; ` between them: the form's field has one line.
        source: `s3://bucket/prefix` with a catalogue, `samples:SEED`, or empty for the recipe's own.
        budget_usd: the most that the run may cost; 0 takes the recipe's.
        promote: whether a checkpoint that passes the gate becomes champion; without, it stays candidate.
    """

    overrides: str = ""
    source: str = ""
    budget_usd: float = 0.0
    promote: bool = True

    def lines(self, recipe: Recipe) -> list[str]:
        """Overrides in order: the source, then what the person wrote, then budget and promotion."""
        written = [change.strip() for change in _BETWEEN.split(self.overrides) if change.strip()]
        found = [*_source_lines(self.source.strip(), recipe), *written]
        if self.budget_usd < 0:
            raise ZoetropeError(f"budget_usd: {self.budget_usd} is below zero", "give dollars, or 0 for the recipe's")
        if self.budget_usd:
            found.append(f"budget_usd={self.budget_usd!r}")
        if not self.promote:
            found.append("promote.requested=false")
        return found


def resolved(recipe: str, inputs: RunInputs) -> Recipe:
    """The recipe with all inputs applied."""
    plain = load_recipe(recipe)
    changes = inputs.lines(plain)
    found = load_recipe(recipe, changes) if changes else plain
    refuse_idle_gpus(found)
    return found


def _source_lines(source: str, recipe: Recipe) -> Sequence[str]:
    if not source:
        return ()
    if source.startswith("s3://"):
        # Rights are not guessed: whoever knows them adds source.licence and source.rights, and promote asks for them.
        return (f"source={json.dumps({'s3': source, 'licence': 'unknown', 'rights': 'unknown'})}",)
    match = _SAMPLES.fullmatch(source)
    if match is None:
        raise ZoetropeError(
            f"source {source!r}: neither an S3 prefix nor samples", "write s3://bucket/prefix, or samples:7"
        )
    if recipe.source.samples is not None:
        return (f"source.samples.seed={match['seed']}",)
    samples = {"samples": {"seed": int(match["seed"])}, "licence": "CC0-1.0", "rights": SAMPLE_RIGHTS}
    return (f"source={json.dumps(samples)}",)
