"""What the cases share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tests.e2e.cluster import Run, log, wait, zoetrope

STAGES = ("stage_1", "stage_2", "stage_3")


class Seen(NamedTuple):
    """One repetition.

    Attributes:
        notes: what was seen.
        wrong: what of it is wrong.
        took: seconds that the case is about; None where it is about none.
    """

    notes: str
    wrong: list[str]
    took: float | None = None


Case = Callable[[int, list[Run]], list[Seen]]
"""(number of the repetition, filled with the runs it made) -> what was seen."""


def start(runs: list[Run], *overrides: str, **how: Any) -> Run:
    """A new run."""
    run = Run(*overrides, **how)
    runs.append(run)
    return run


def undisturbed() -> dict[str, float]:
    """Stage -> final loss when nothing happens, measured once."""
    path = Path(".e2e") / "undisturbed.json"
    if not path.exists():
        run = Run()
        try:
            wait("the undisturbed stages end", lambda: STAGES[-1] in run.run_files.steps(), 1500, 3.0)
            losses = {stage: run.final_loss(stage) for stage in STAGES}
        finally:
            zoetrope("runs", "cancel", run.run_id, check=False)
            run.close()
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(losses))
    return dict(json.loads(path.read_text()))


def told(run: Run, step: str) -> str:
    """What the launcher of a step has said about its job.

    Its log holds the step's inputs as well, with words like `image` and `memory`, before there is any job.
    """
    pod = run.launcher(step)
    lines = log(pod, "main").splitlines() if pod else []
    return "\n".join(line for line in lines if line.startswith(f"zoetrope: {step}: job "))
