"""The record of a run, `zoetrope.run.v2`: what ran, what came of each step, what it cost. The same everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, ValidationError

from zoetrope.infra.config import StrictModel
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.redact import redacted

SCHEMA: Literal["zoetrope.run.v2"] = "zoetrope.run.v2"
OLD_SCHEMA = "zoetrope.run.v1"

RunStatus = Literal["FINISHED", "FAILED", "KILLED"]
StepStatus = Literal["succeeded", "reused", "failed", "cancelled"]


def _utc(value: Any) -> Any:
    """A moment in UTC, to the second; v1 of the cluster counted seconds since the epoch."""
    if isinstance(value, int | float):
        value = datetime.fromtimestamp(value, UTC)
    elif isinstance(value, str):
        value = datetime.fromisoformat(value)
    return value.astimezone(UTC).replace(microsecond=0) if isinstance(value, datetime) else value


Moment = Annotated[datetime, BeforeValidator(_utc)]
Shown = Annotated[str, AfterValidator(redacted)]
"""Text that people read: no login of an address gets into a record."""
Money = Annotated[Decimal, PlainSerializer(lambda usd: f"{usd:f}", return_type=str)]


class RecipeVersion(StrictModel):
    """The recipe by its name and the SHA-256 of what it resolves to."""

    name: str = ""
    digest: str = ""


class CodeVersion(StrictModel):
    """The code that ran.

    Attributes:
        commit: of git; empty where it is not known.
        dirty: whether the tree differed from it; None where it is not known.
        images: image -> digest, on a cluster.
    """

    commit: str = ""
    dirty: bool | None = None
    images: dict[str, str] = Field(default_factory=dict)

    @classmethod
    def parse(cls, text: str, images: Mapping[str, str] | None = None) -> CodeVersion:
        """From `COMMIT` or `COMMIT+dirty`."""
        commit, _, dirty = text.partition("+")
        return cls(commit=commit, dirty=bool(dirty) if commit else None, images=dict(images or {}))


class RunDataset(StrictModel):
    """The dataset version that the run made or started from.

    Attributes:
        reference: of its manifest.
        name: of the dataset.
        tag: `NAME-vN`; empty until the version is adopted (on a cluster `zoetrope data adopt` does it).
        revision: commit of the data registry; empty like `tag`.
        digest: the dataset's own.
    """

    reference: str = ""
    name: str = ""
    tag: str = ""
    revision: str = ""
    digest: str = ""


class TrackingRun(StrictModel):
    """Where MLflow is and which of its runs this one is; empty where nobody listened."""

    tracking_uri: Shown = ""
    run: str = ""


class RunStep(StrictModel):
    """What came of one step.

    Attributes:
        status: `reused`: the result was there and nothing was computed.
        from_run: the run that made a reused result; empty for all others.
        record: reference of the step's own record (`zoetrope.record.v1`), of a reused one that of `from_run`; empty
            for a step that did not end well.
        mlflow_run: nested run of MLflow.
        attempt: the last one's number; 0 where nothing ran in this run.
        seconds: of the last attempt; 0 where nothing ran.
        cost_usd: all that the step held in this run by the ledger, attempts that failed included.
        resources: what was allocated to it.
        usage: {cpu_seconds, peak_memory_bytes} of the last attempt.
        product: reference of what it made.
        key_figure: one phrase.
        message: why it did not end well.
        hint: what to do then.
    """

    status: StepStatus
    from_run: str = ""
    record: str = ""
    mlflow_run: str = ""
    attempt: int = 0
    seconds: float = 0.0
    cost_usd: Money = Decimal(0)
    resources: dict[str, Any] = Field(default_factory=dict)
    usage: dict[str, float | int] = Field(default_factory=dict)
    product: str = ""
    key_figure: str = ""
    message: Shown = ""
    hint: Shown = ""


class RunHeader(StrictModel):
    """What is known of a run apart from its steps.

    Attributes:
        run_id: names it everywhere.
        status: how it ended.
        message: why, where it did not end well.
        pipeline: `data`, `train`, `evaluate` or `full`.
        recipe: what was run.
        arguments: inputs of the pipeline, as they were given.
        command: what the user typed; empty on a cluster.
        started: UTC.
        code: that ran.
        dataset: that the run started from or made; None for one that got to none.
        price_sheet: name of the sheet that all amounts are by.
        mlflow: where its numbers are.
        kubeflow: address of the run for a person's browser; empty where there is none.
        peak_memory_bytes: most resident memory of all processes of a run on one machine; 0 where nobody looked.
    """

    run_id: str
    status: RunStatus
    message: Shown = ""
    pipeline: str = ""
    recipe: RecipeVersion = RecipeVersion()
    arguments: dict[str, Shown] = Field(default_factory=dict)
    command: Shown = ""
    started: Moment
    code: CodeVersion = CodeVersion()
    dataset: RunDataset | None = None
    price_sheet: str = ""
    mlflow: TrackingRun = TrackingRun()
    kubeflow: Shown = ""
    peak_memory_bytes: int = 0


class RunRecord(RunHeader):
    """A run that has ended.

    Attributes:
        schema_version: key `schema` of the JSON.
        finished: UTC.
        cost_usd: of everything that the run held, steps or not.
        steps: name -> what came of it, in the order of the pipeline; steps that never began are not in it.
    """

    schema_version: Literal["zoetrope.run.v2"] = Field(default=SCHEMA, alias="schema")
    finished: Moment
    cost_usd: Money = Decimal(0)
    steps: dict[str, RunStep] = Field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """JSON values, `schema` first."""
        values = self.model_dump(mode="json", by_alias=True)
        return {"schema": values.pop("schema"), **values}


def read_run_record(values: Mapping[str, Any], where: str) -> RunRecord:
    """The record of a run of this or an earlier version of zoetrope.

    Args:
        values: JSON of `zoetrope.run.v2` or `zoetrope.run.v1`.
        where: the file or object, for messages.

    Raises:
        ZoetropeError: it is neither.
    """
    schema = values.get("schema")
    try:
        if schema == SCHEMA:
            return RunRecord.model_validate(values)
        if schema == OLD_SCHEMA:
            return RunRecord.model_validate(_from_v1(values))
    except (ValidationError, KeyError, TypeError) as error:
        raise ZoetropeError(f"{where}: a damaged run record", f"it is no {schema}: {str(error)[:200]}") from error
    raise ZoetropeError(
        f"{where}: a run record of schema {schema!r}, which is not known here", "a newer zoetrope wrote it: update"
    )


def _from_v1(values: Mapping[str, Any]) -> dict[str, Any]:
    """Both shapes of v1: local runs had no price sheet and no dataset reference, clusters no failed steps."""
    found = {name: values[name] for name in RunRecord.model_fields if name in values}
    code = dict(values.get("code") or {})
    commit, _, dirty = str(code.get("commit", "")).partition("+")
    known = bool(dirty) if dirty or "dirty" not in code else code["dirty"]
    found["code"] = {"commit": commit, "dirty": known if commit else None, "images": code.get("images") or {}}
    found["dataset"] = values.get("dataset") or None
    found["steps"] = {name: _step_from_v1(step) for name, step in (values.get("steps") or {}).items()}
    return found


def _step_from_v1(step: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: step[name] for name in RunStep.model_fields if name in step}
    if step["status"] == "cached":
        # v1 gave what the step had cost when it ran, in a run that it did not name.
        found |= {"status": "reused", "attempt": 0, "seconds": 0.0, "cost_usd": "0", "resources": {}, "usage": {}}
    return found
