"""Something dies in mid-training, and the run ends as if nothing had happened."""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Callable

from tests.e2e.cases.common import STAGES, Seen, start, undisturbed
from tests.e2e.cluster import ENDED, Run, kubectl, wait, zoetrope

AWAY_SECONDS = 60.0
MOMENTS = 60.0
"""A launcher is killed so many seconds after its begin at most: before it makes its job, or while it follows it."""


def in_each_stage(runs: list[Run], hit: Callable[[Run, str, int], bool], number: int) -> list[Seen]:
    """Hits each training stage of one run, and looks at what became of it: one repetition a stage.

    A stage that was over before it was hit is none.
    """
    expected = undisturbed()
    run = start(runs)
    found: list[Seen] = []
    for at, stage in enumerate(STAGES):
        was_hit = hit(run, stage, number + at)
        wait(f"{stage} ends", lambda: stage in run.run_files.steps() or run.phase() in ENDED, 900, 2.0)  # noqa: B023
        if stage not in run.run_files.steps():
            return [*found, Seen("", [f"the run ended as {run.phase()} in {stage}"])]
        if not was_hit:
            continue
        loss, resumed, jobs = run.final_loss(stage), run.resumed_at(stage), len(run.of_step(stage))
        wrong = [] if loss == expected[stage] else [f"final loss {loss}, undisturbed {expected[stage]}"]
        found.append(Seen(f"{jobs} TrainJob, resumed at step {resumed:.0f}, final loss equal", wrong))
    zoetrope("runs", "cancel", run.run_id)
    run.ended()
    return found


def mid_training(run: Run, stage: str, seed: int) -> None:
    """Waits until a stage has trained for a while; how long is different each time."""
    run.training(stage, after=20 + 40 * (seed % 3), seconds=600)


def launcher_killed(number: int, runs: list[Run]) -> list[Seen]:
    """The launcher's pod is killed at a random moment; its retry makes the job, or adopts it."""

    def hit(run: Run, stage: str, seed: int) -> bool:
        pod = wait(f"the launcher of {stage}", lambda: run.launcher(stage), 300)
        time.sleep(random.Random(seed).uniform(0, MOMENTS))
        if run.launcher(stage) != pod:
            return False
        kubectl("delete", "pod", pod, "--grace-period=0", "--force")
        return True

    found = in_each_stage(runs, hit, number)
    doubled = "doubled jobs: more than one"
    return [each._replace(wrong=[*each.wrong, *([] if _one(each) else [doubled])]) for each in found]


def _one(seen: Seen) -> bool:
    return bool(seen.wrong) or seen.notes.startswith("1 TrainJob")


def training_pod_killed(number: int, runs: list[Run]) -> list[Seen]:
    """A pod of the job is killed, politely or at once; the training resumes from its checkpoint."""

    def hit(run: Run, stage: str, seed: int) -> bool:
        mid_training(run, stage, seed)
        pods = sorted(pod["metadata"]["name"] for pod in run.job_pods(stage))
        if not pods:
            return False
        force = ["--grace-period=0", "--force"] if seed % 2 else ["--wait=false"]
        kubectl("delete", "pod", pods[seed % len(pods)], *force)
        return True

    found = in_each_stage(runs, hit, number)
    restarted = "resumed at step 0,"
    return [
        each._replace(wrong=[*each.wrong, *(["it started over"] if restarted in each.notes else [])]) for each in found
    ]


def api_server_away(number: int, runs: list[Run]) -> list[Seen]:
    """The API server is away for a minute."""

    def hit(run: Run, stage: str, seed: int) -> bool:
        mid_training(run, stage, seed)
        subprocess.run(os.environ["API_STOP"], shell=True, check=True)
        try:
            time.sleep(AWAY_SECONDS)
        finally:
            subprocess.run(os.environ["API_START"], shell=True, check=True)
        return True

    return in_each_stage(runs, hit, number)
