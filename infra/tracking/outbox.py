"""Sends a step's outbox to MLflow: every line once, however often it is interrupted."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoetrope.infra.redact import redacted
from zoetrope.infra.tracking.client import error_code, is_passing

if TYPE_CHECKING:
    from mlflow.entities import Metric, Param

log = logging.getLogger(__name__)

# Limits of MLflow's log-batch call.
METRICS_PER_BATCH = 900
PARAMETERS_PER_BATCH = 100
LONGEST_PARAMETER = 6000
_UNSAFE = re.compile(r"[^A-Za-z0-9_\-. /:]")


@dataclass
class OutboxBatch:
    """What one call to MLflow sends.

    Attributes:
        metrics: MLflow metrics.
        parameters: MLflow parameters.
        lines: number of outbox lines in it.
        end: offset in the outbox after the last of them.
    """

    metrics: list[Metric] = field(default_factory=list)
    parameters: list[Param] = field(default_factory=list)
    lines: int = 0
    end: int = 0

    def full(self) -> bool:
        """Whether one more line might be too much for a call."""
        return len(self.metrics) >= METRICS_PER_BATCH // 2 or len(self.parameters) >= PARAMETERS_PER_BATCH // 2


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as dotted names and texts, the way MLflow shows parameters."""
    flat: dict[str, str] = {}
    for name, value in values.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{key}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, default=str)
            flat[safe_name(key)] = text[:LONGEST_PARAMETER]
    return flat


def safe_name(name: str) -> str:
    """A name that MLflow accepts."""
    return _UNSAFE.sub("_", name)[:250]


def parameters_of(values: Mapping[str, Any]) -> list[Param]:
    """MLflow parameters of nested settings."""
    from mlflow.entities import Param

    return [Param(name, text) for name, text in flatten(values).items()]


def unsent(outbox: Path) -> list[OutboxBatch]:
    """Batches of the whole lines that were not sent yet, in order."""
    data = unsent_bytes(outbox)
    if not data:
        return []
    batches = [OutboxBatch(end=_read_offset(outbox))]
    for line in data.splitlines(keepends=True):
        if batches[-1].full():
            batches.append(OutboxBatch(end=batches[-1].end))
        batches[-1].lines += 1
        batches[-1].end += len(line)
        _add(batches[-1], line, outbox)
    return [batch for batch in batches if batch.lines]


def unsent_bytes(outbox: Path) -> bytes:
    """The whole lines that were not sent yet."""
    if not outbox.exists():
        return b""
    with outbox.open("rb") as stream:
        stream.seek(_read_offset(outbox))
        data = stream.read()
    return data[: data.rfind(b"\n") + 1]


def mark_sent(outbox: Path, batch: OutboxBatch) -> None:
    """Remembers that everything up to the end of `batch` arrived."""
    side = _side_file(outbox)
    part = side.with_suffix(".part")
    part.write_text(f"{batch.end}\n", encoding="ascii")
    part.replace(side)


def send(batch: OutboxBatch, log_batch: Callable[[list[Metric], list[Param]], None]) -> None:
    """Sends a batch; what MLflow refuses permanently is found by halving, named in the log and left out.

    Raises:
        Exception: whatever `log_batch` raises for a passing fault.
    """
    for start in range(0, max(len(batch.metrics), 1), METRICS_PER_BATCH):
        _send_or_halve(batch.metrics[start : start + METRICS_PER_BATCH], lambda part: log_batch(part, []))
    for start in range(0, max(len(batch.parameters), 1), PARAMETERS_PER_BATCH):
        _send_or_halve(batch.parameters[start : start + PARAMETERS_PER_BATCH], lambda part: log_batch([], part))


def _send_or_halve(items: list[Any], call: Callable[[list[Any]], None]) -> None:
    from mlflow.exceptions import MlflowException

    if not items:
        return
    try:
        call(items)
    except MlflowException as error:
        if is_passing(error) or error_code(error) == "RESOURCE_DOES_NOT_EXIST":
            raise
        if len(items) == 1:
            log.warning("MLflow refuses %s: %s", items[0].key, redacted(str(error).splitlines()[0]))
            return
        middle = len(items) // 2
        _send_or_halve(items[:middle], call)
        _send_or_halve(items[middle:], call)


def _add(batch: OutboxBatch, line: bytes, outbox: Path) -> None:
    from mlflow.entities import Metric

    try:
        fields = json.loads(line)
        if fields["kind"] == "metrics":
            time = int(fields["time"] * 1000)
            batch.metrics += [
                Metric(safe_name(name), float(value), time, int(fields.get("index", 0)))
                for name, value in fields["values"].items()
            ]
        elif fields["kind"] == "parameters":
            batch.parameters += parameters_of(fields["values"])
    except (ValueError, KeyError, TypeError, AttributeError):
        # A killed writer leaves half a line, which the next one continues.
        log.warning("%s: a damaged line is left out: %s", outbox.name, line[:80])


def _side_file(outbox: Path) -> Path:
    return outbox.with_name(outbox.name + ".sent")


def _read_offset(outbox: Path) -> int:
    try:
        return int(_side_file(outbox).read_text(encoding="ascii"))
    except (FileNotFoundError, ValueError):
        return 0
