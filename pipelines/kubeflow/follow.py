"""Waits for a run and shows its steps: a live table in a terminal, a plain line per change elsewhere."""

from __future__ import annotations

import time

from rich import box
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from zoetrope.infra.errors import ServiceError, ZoetropeError
from zoetrope.pipelines.kubeflow.client import Kubeflow
from zoetrope.pipelines.kubeflow.runs import get_run
from zoetrope.pipelines.kubeflow.views import RunView, StepView
from zoetrope.pipelines.kubeflow.workflow import RunSources

INTERVAL_SECONDS = 3.0
TIMEOUT_SECONDS = 900.0  # an API server that is upgraded or moved comes back within that
_COLOURS = {"running": "cyan", "succeeded": "green", "reused": "green", "failed": "bold red", "cancelled": "yellow"}


def duration(seconds: float | None) -> str:
    """Seconds for people: `4 s`, `2:05`, `1:02:03`."""
    if seconds is None:
        return ""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def step_rows(run: RunView) -> list[dict[str, str]]:
    """The steps of a run as rows of a table."""
    return [
        {
            "step": each.step,
            "state": each.state,
            "duration": duration(each.seconds),
            "retries": str(max(each.attempts - 1, 0) or ""),
        }
        for each in run.steps
    ]


def step_table(run: RunView) -> Table:
    """The steps of a run as a table with colours."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("step", "state"):
        table.add_column(name)
    for name in ("duration", "retries"):
        table.add_column(name, justify="right")
    for row in step_rows(run):
        colour = _COLOURS.get(row["state"], "dim")
        table.add_row(escape(row["step"]), f"[{colour}]{escape(row['state'])}[/]", row["duration"], row["retries"])
    return table


class StepLines:
    """Prints one line for each change of a step, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._seen: dict[str, tuple[str, int]] = {}

    def show(self, run: RunView) -> None:
        """Prints what changed since the last call."""
        for step in run.steps:
            now = (step.state, step.attempts)
            if self._seen.get(step.step, ("waiting", 0)) != now:
                self._console.print(_line(step), highlight=False, markup=False)
            self._seen[step.step] = now


def _line(step: StepView) -> str:
    again = f", attempt {step.attempts}" if step.attempts > 1 else ""
    took = f" after {duration(step.seconds)}" if step.state in ("succeeded", "failed", "cancelled") else ""
    return f"{step.step}: {step.state}{took}{again}"


def wait(
    kubeflow: Kubeflow,
    run_id: str,
    console: Console,
    sources: RunSources | None = None,
) -> RunView:
    """Follows a run to its end.

    An API server that is away is waited for; it is the run that counts, and that goes on without it.

    Args:
        kubeflow: the connection.
        run_id: the run.
        console: where its steps are shown.
        sources: what knows more of the steps than KFP's API.

    Raises:
        ZoetropeError: the server stays away, or it no longer lets us in.
    """
    lines = StepLines(console)
    live = Live(console=console, auto_refresh=False, transient=False) if console.is_terminal else None
    answered = time.monotonic()
    if live is not None:
        live.start()
    try:
        while True:
            try:
                run = get_run(kubeflow, run_id, sources)
                answered = time.monotonic()
            except ZoetropeError as error:
                if not _passing(error) or time.monotonic() - answered > TIMEOUT_SECONDS:
                    raise
                time.sleep(INTERVAL_SECONDS)
                continue
            if live is None:
                lines.show(run)
            else:
                live.update(step_table(run), refresh=True)
            if run.ended:
                return run
            time.sleep(INTERVAL_SECONDS)
    finally:
        if live is not None:
            live.stop()


def _passing(error: ZoetropeError) -> bool:
    return error.retryable or (isinstance(error, ServiceError) and error.unanswered)
