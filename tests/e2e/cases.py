"""The faults: each case causes one, and returns (what was seen, what is wrong)."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.e2e.cluster import ENDED, RECIPE, Run, items, kubectl, kubeflow, log, wait, zoetrope

Seen = tuple[str, list[str]]
"""What was seen, and what of it is wrong."""
Case = Callable[[int, list[Run]], list[Seen]]
STAGES = ("stage_1", "stage_2", "stage_3")
GONE_SECONDS, REAPED_SECONDS, TOLD_SECONDS = 60.0, 150.0, 120.0


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
        wait("the undisturbed stages end", lambda: STAGES[-1] in run.shelf.steps(), 1500, 3.0)
        losses = {stage: run.final_loss(stage) for stage in STAGES}
        zoetrope("runs", "cancel", run.run_id)
        run.close()
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(losses))
    return dict(json.loads(path.read_text()))


def in_each_stage(runs: list[Run], hit: Callable[[Run, str, int], None], number: int) -> list[Seen]:
    """Hits each training stage of one run, and looks at what became of it: one repetition a stage."""
    expected = undisturbed()
    run = start(runs)
    found: list[Seen] = []
    for at, stage in enumerate(STAGES):
        run.training(stage, after=20 + 40 * ((number + at) % 3), seconds=600)
        hit(run, stage, number + at)
        wait(f"{stage} ends", lambda: stage in run.shelf.steps() or run.phase() in ENDED, 900, 2.0)  # noqa: B023
        if stage not in run.shelf.steps():
            return [*found, ("", [f"the run ended as {run.phase()} in {stage}"])]
        loss, resumed, jobs = run.final_loss(stage), run.resumed_at(stage), len(run.of_step(stage))
        wrong = [] if loss == expected[stage] else [f"final loss {loss}, undisturbed {expected[stage]}"]
        found.append((f"{jobs} TrainJob, resumed at step {resumed:.0f}, final loss equal", wrong))
    zoetrope("runs", "cancel", run.run_id)
    run.ended()
    return found


def launcher_killed(number: int, runs: list[Run]) -> list[Seen]:
    """The launcher's pod is killed at a random moment; its retry adopts the job."""

    def hit(run: Run, stage: str, seed: int) -> None:
        time.sleep(random.Random(seed).uniform(0, 5))
        kubectl("delete", "pod", run.launcher(stage), "--grace-period=0", "--force")

    found = in_each_stage(runs, hit, number)
    return [
        (text, [*wrong, *([] if text.startswith("1 TrainJob") else ["doubled jobs: more than one"])])
        for text, wrong in found
    ]


def training_pod_killed(number: int, runs: list[Run]) -> list[Seen]:
    """A pod of the job is killed, politely or at once; the training resumes from its checkpoint."""

    def hit(run: Run, stage: str, seed: int) -> None:
        pods = sorted(pod["metadata"]["name"] for pod in run.job_pods(stage))
        force = ["--grace-period=0", "--force"] if seed % 2 else ["--wait=false"]
        kubectl("delete", "pod", pods[seed % len(pods)], *force)

    found = in_each_stage(runs, hit, number)
    return [(text, [*wrong, *(["it began anew"] if "step 0," in text else [])]) for text, wrong in found]


def terminated(number: int, runs: list[Run]) -> list[Seen]:
    """Terminate in mid-training: the launcher stops its job."""
    run = start(runs)
    run.training(after=20)
    zoetrope("runs", "cancel", run.run_id)
    return _gone(run, GONE_SECONDS)


def terminated_without_launcher(number: int, runs: list[Run]) -> list[Seen]:
    """The launcher is killed first, so the reaper alone stops the job."""
    run = start(runs, "cluster.retry_seconds=600")
    run.training(after=20)
    kubectl("delete", "pod", run.launcher("stage_1"), "--grace-period=0", "--force")
    zoetrope("runs", "cancel", run.run_id)
    return _gone(run, REAPED_SECONDS)


def _gone(run: Run, seconds: float) -> list[Seen]:
    begun = time.monotonic()
    wait("the job is gone", lambda: not run.live_jobs() and not run.job_pods("stage_1"), 2 * seconds)
    took = time.monotonic() - begun
    run.ended(120)
    return [(f"gone within {seconds:.0f} s", [] if took <= seconds else [f"the job was there for {took:.0f} s"])]


def run_deleted(number: int, runs: list[Run]) -> list[Seen]:
    """The run is deleted in mid-training, its Workflow with it."""
    run = start(runs)
    run.training(after=20)
    kubeflow().call("runs", "run_service_delete_run", run_id=run.run_id)
    wait("the workflow is gone", lambda: run.workflow() is None, 60)
    wait("the job is gone", lambda: not run.live_jobs(), REAPED_SECONDS)
    return [("job gone with its run", [])]


def api_server_away(number: int, runs: list[Run]) -> list[Seen]:
    """The API server is away for a minute."""
    stop, begin = os.environ.get("API_STOP", ""), os.environ.get("API_START", "")
    if not stop or not begin:
        raise RuntimeError("API_STOP and API_START are not set")

    def hit(run: Run, stage: str, seed: int) -> None:
        subprocess.run(stop, shell=True, check=True)
        time.sleep(60)
        subprocess.run(begin, shell=True, check=True)

    return in_each_stage(runs, hit, number)


def out_of_memory(number: int, runs: list[Run]) -> list[Seen]:
    """The job's pods may not hold what PyTorch needs; no retry of KFP repeats that."""
    run = start(runs, "resources.stage_1={cpu: 2, memory_gb: 0.5}")
    phase = run.ended()
    said = run.verdict("stage_1")
    wrong = [] if phase == "Failed" else [f"the run ended as {phase}"]
    if said is None or "memory" not in said.headline:
        wrong.append(f"the verdict says {said}")
    first = len(run.of_step("stage_1"))
    if first != 1:
        wrong.append(f"{first} jobs were made, though memory would not be enough again")
    zoetrope("runs", "retry", run.run_id)
    wait("the retry makes its job", lambda: run.look() or len(run.of_step("stage_1")) == 2, 180)
    wait("the run ends again", lambda: run.phase() == "Failed", 300)
    return [("verdict: out of memory; one job, and one more after `runs retry`", wrong)]


def image_that_does_not_exist(number: int, runs: list[Run]) -> list[Seen]:
    """The job's image is not in the registry; submit's own check would refuse it, so it is left out."""
    lock = Path(".e2e") / "no-such-image.lock"
    text = Path("images.lock").read_text()
    lock.write_text(re.sub(r"(?m)^(train = .*@sha256:)[0-9a-f]{64}", lambda found: found[1] + "e" * 64, text))
    given = ["--dataset", "tiny-v1", "--images", str(lock)]
    refused = zoetrope("submit", RECIPE, *given, "--dry-run", check=False)
    wrong = [] if refused.returncode == 2 else [f"submit let it through: exit {refused.returncode}"]
    run = start(runs, "cluster.schedule_timeout=60", checked=False, lock=str(lock))
    return _cannot_start(run, wrong, ("pull", "image", "not found"))


def resource_that_no_node_has(number: int, runs: list[Run]) -> list[Seen]:
    """No node has that much memory; submit would refuse it because of the quota, where there is one."""
    huge = "resources.stage_1={cpu: 2, memory_gb: 4000}"
    run = start(runs, huge, "cluster.schedule_timeout=60", checked=False)
    return _cannot_start(run, [], ("memory", "nodes are available"))


def _cannot_start(run: Run, wrong: list[str], words: tuple[str, ...]) -> list[Seen]:
    wait("the job is made", lambda: run.of_step("stage_1"), 200)
    begun = time.monotonic()
    pod = wait("the launcher", lambda: run.launcher("stage_1"), 60)
    wait(
        "it says why",
        lambda: any(word in kubectl("logs", pod, "-c", "main", check=False).lower() for word in words),
        240,
    )
    told = time.monotonic() - begun
    if told > TOLD_SECONDS:
        wrong.append(f"said after {told:.0f} s only")
    phase = run.ended()
    said = run.verdict("stage_1")
    if phase != "Failed" or said is None or not any(word in str(said).lower() for word in words):
        wrong.append(f"the run ended as {phase}, the verdict says {said}")
    return [(f"said within {TOLD_SECONDS:.0f} s, in the event's words", wrong)]


def mlflow_down(number: int, runs: list[Run]) -> list[Seen]:
    """MLflow is away for the whole run: training succeeds, promote ends with exit 75, `runs retry` promotes."""
    wrong = []
    kubectl("scale", "deployment/zoetrope-mlflow", "--replicas=0")
    try:
        run = start(runs)
        phase = run.ended(1200)
    finally:
        kubectl("scale", "deployment/zoetrope-mlflow", "--replicas=1")
        kubectl("rollout", "status", "deployment/zoetrope-mlflow", "--timeout=200s")
    steps = run.shelf.steps()
    if phase != "Failed" or "stage_3" not in steps or "promote" in steps:
        wrong.append(f"the run ended as {phase} with {', '.join(steps)}")
    codes = _exit_codes(run, "promote")
    if set(codes) != {75}:
        wrong.append(f"promote ended with {codes}")
    zoetrope("runs", "retry", run.run_id)
    wait("the retry promotes", lambda: "promote" in run.shelf.steps(), 300)
    run.ended()
    entry = wait("metrics arrive", lambda: run.shelf.steps()["stage_1"]["mlflow_run"], 120)
    return [
        ("training ends well, promote 75, retry promotes, metrics arrive", wrong if entry else [*wrong, "no metrics"])
    ]


def _exit_codes(run: Run, step: str) -> list[int]:
    """The step's own exit codes. KFP's launcher ends with 1 whatever they were, and says them in its log."""
    found = items("pods", f"pipeline/runid={run.run_id},zoetrope/step={step}")
    logs = [log(pod["metadata"]["name"], "main") for pod in found]
    return [int(said[1]) for text in logs if (said := re.search(r"exit status (\d+)", text))]


CASES: dict[str, Case] = {
    case.__name__: case
    for case in (
        launcher_killed,
        training_pod_killed,
        terminated,
        terminated_without_launcher,
        run_deleted,
        out_of_memory,
        image_that_does_not_exist,
        resource_that_no_node_has,
        mlflow_down,
        api_server_away,
    )
}
