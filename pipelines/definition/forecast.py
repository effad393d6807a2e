"""What a run will find: for each step whether its result is known, before anything starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from zoetrope.infra.keys import KeyParts, StoredResult, find_result
from zoetrope.infra.steps.job import StepJob
from zoetrope.infra.store import Store
from zoetrope.pipelines.definition.step_table import STEPS, made_by

Status = Literal["HIT", "MISS", "RUNS"]


@dataclass(frozen=True)
class Forecast:
    """One step of a run that has not begun.

    Attributes:
        step: its name.
        status: `HIT`: the result is known and whole; `MISS`: it is computed; `RUNS`: a step that always runs.
        parts: its key as far as it is known; None for a step that always runs.
        known: the result of a `HIT`.
        made_anew: input -> step before that is computed, so that nobody knows yet what will be read.
    """

    step: str
    status: Status
    parts: KeyParts | None = None
    known: StoredResult | None = None
    made_anew: Mapping[str, str] | None = None

    def origin(self, run_id: str) -> str:
        """The run whose result this will be; see `StepJob.origin`."""
        return self.known.run_id if self.known is not None else run_id


def forecast(
    jobs: Mapping[str, StepJob], store: Store, given: Mapping[str, str], *, fresh: bool = False
) -> dict[str, Forecast]:
    """Follows the known results from step to step.

    Args:
        jobs: step -> its job.
        store: where results lie.
        given: step -> reference of a product that the run starts from instead of running that step.
        fresh: whether nothing that is known may be used.

    Returns:
        Step -> what will happen, in the order of the step table.
    """
    products = dict(given)
    found = {}
    for name, row in STEPS.items():
        if name not in jobs:
            continue
        if not row.cached:
            found[name] = Forecast(name, "RUNS")
            continue
        inputs = made_by(name)
        anew = {parameter: step for parameter, step in inputs.items() if step not in products}
        read = {parameter: products[step] for parameter, step in inputs.items() if step in products}
        parts = jobs[name].parts(read)
        assert parts is not None
        known = None if anew or fresh else find_result(store, name, parts.digest())
        if known is not None and name not in given:
            products[name] = known.product
        found[name] = Forecast(name, "MISS" if known is None else "HIT", parts, known, anew)
    return found
