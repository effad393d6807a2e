"""Shows a run while it happens: a live line in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.status import Status

from zoetrope.pipelines.definition.step_table import PIPELINES


class Progress:
    """Prints one line per finished step and keeps the running one alive.

    Args:
        console: where to print.
        pipeline: gives the number of steps.
    """

    def __init__(self, console: Console, pipeline: str) -> None:
        self._console = console
        self._order = PIPELINES[pipeline]
        self._seen: set[str] = set()
        self._started = time.monotonic()
        self._status: Status | None = None

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._status = self._console.status("resolving the recipe")
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def show(self, events: Iterable[dict[str, Any]]) -> None:
        """Prints what is new."""
        for event in events:
            step, kind = event["step"], event["event"]
            if kind == "started":
                self._report_reused(before=step)
                self._live(f"{step} ...")
            elif kind == "progress":
                share = event.get("fraction")
                percent = f"{share:4.0%} " if share is not None else ""
                self._live(f"{step} {percent}{escape(event['message'])}")
            elif kind == "finished":
                self._line(step, f"{event['seconds']:6.1f} s  {escape(event['key_figure'])}")
            elif kind == "reused":
                self._report_reused(before=step)
                self._line(step, f"  reused    {escape(event['key_figure'])}")
            elif kind == "failed":
                self._line(step, f"[red]{event['kind']}")

    def _report_reused(self, before: str) -> None:
        """Steps that stand before one that began, and said nothing, were answered from KFP's cache."""
        for step in self._order[: self._order.index(before)] if before in self._order else ():
            if step not in self._seen:
                self._line(step, "  reused")

    def _line(self, step: str, text: str) -> None:
        self._seen.add(step)
        number = self._order.index(step) + 1 if step in self._order else 0
        clock = f"{time.monotonic() - self._started:5.0f} s"
        counter = escape(f"[{number}/{len(self._order)}]")
        self._console.print(f"[dim]{clock}[/]  {counter:<8} {step:<12} {text}", highlight=False)

    def _live(self, text: str) -> None:
        if self._status is not None:
            self._status.update(text)
