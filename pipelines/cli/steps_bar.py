"""How far a sampler is: a live bar in a terminal, a plain line for every tenth elsewhere."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


class StepsBar:
    """Shows the steps of one or more things that are drawn one after another.

    Args:
        console: where to show them; not where results go.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        self._progress = Progress(*columns, console=console) if console.is_terminal else None
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> StepsBar:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def show(self, label: str, done: int, total: int) -> None:
        """Takes (what is drawn, steps done, steps in all) after a step."""
        if self._progress is None:
            if done * 10 // total > (done - 1) * 10 // total:
                self._console.print(f"{label}: step {done} of {total}", highlight=False)
            return
        if label not in self._tasks:
            self._tasks[label] = self._progress.add_task(label, total=total)
        self._progress.update(self._tasks[label], completed=done)
