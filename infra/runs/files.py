"""A run's own place in the store. Pods share no disk and KFP's metadata store is not our memory."""

from __future__ import annotations

import json
from typing import Any

from zoetrope.infra.references import canonical_json
from zoetrope.infra.runs.plan import RunPlan
from zoetrope.infra.runs.record import RunRecord, read_run_record
from zoetrope.infra.runs.verdicts import Verdicts
from zoetrope.infra.store import Store


class RunFiles:
    """Objects of one run.

    `runs/RUN/plan.json`, `runs/RUN/steps/STEP.json` ({record, product, mlflow_run}), `runs/RUN/record.json`,
    `runs/RUN/tracking/STEP.ATTEMPT.jsonl` (metrics that MLflow has not got yet) and `verdicts/RUN/STEP.json`.

    Args:
        store: where it lies.
        run_id: the pipeline run.
    """

    def __init__(self, store: Store, run_id: str) -> None:
        self.store = store
        self.run_id = run_id
        self.verdicts = Verdicts(store, run_id)

    def write_plan(self, plan: RunPlan) -> None:
        """Writes the plan."""
        self._put(f"runs/{self.run_id}/plan.json", plan.model_dump(mode="json"))

    def plan(self) -> RunPlan | None:
        """The plan, None where `resolve` has not written one."""
        found = self._get(f"runs/{self.run_id}/plan.json")
        return None if found is None else RunPlan.model_validate(found)

    def note_step(self, step: str, record: str, product: str, mlflow_run: str = "") -> None:
        """Remembers what a step made in this run."""
        self._put(
            f"runs/{self.run_id}/steps/{step}.json", {"record": record, "product": product, "mlflow_run": mlflow_run}
        )

    def steps(self) -> dict[str, dict[str, str]]:
        """Step -> {record, product, mlflow_run} of every step that ended well in this run."""
        prefix = f"runs/{self.run_id}/steps/"
        found = {}
        for uri in self.store.list(prefix):
            found[uri.rpartition("/")[2].removesuffix(".json")] = json.loads(self.store.read(uri))
        return found

    def write_record(self, record: RunRecord) -> str:
        """Writes the run record and returns its URI."""
        return self._put(f"runs/{self.run_id}/record.json", record.as_json())

    def record(self) -> RunRecord | None:
        """The run record, None while the run has not ended."""
        key = f"runs/{self.run_id}/record.json"
        found = self._get(key)
        return None if found is None else read_run_record(found, key)

    # Metrics on their way

    def keep_metrics(self, name: str, data: bytes) -> None:
        """Keeps lines of an outbox that MLflow did not take; `name` is `STEP.ATTEMPT`, or longer for more writers."""
        self.store.put_bytes(f"runs/{self.run_id}/tracking/{name}.jsonl", data)

    def kept_metrics(self) -> list[str]:
        """URIs of what was kept."""
        return list(self.store.list(f"runs/{self.run_id}/tracking/"))

    def _put(self, key: str, value: Any) -> str:
        return self.store.put_bytes(key, canonical_json(value))

    def _get(self, key: str) -> Any:
        uri = self.store.uri(key)
        return json.loads(self.store.read(uri)) if self.store.exists(uri) else None
