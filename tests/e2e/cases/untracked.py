"""MLflow does not answer: that costs nothing but the promotion, which waits."""

from __future__ import annotations

import json
import re

from tests.e2e.cases.common import Seen, start
from tests.e2e.cluster import Run, items, known_items, kubectl, log, wait, zoetrope

MLFLOW = "deployment/zoetrope-mlflow"
EXIT_LATER = 75


def mlflow_down(number: int, runs: list[Run]) -> list[Seen]:
    """MLflow is away for the whole run: training succeeds, promote ends with exit 75, `runs retry` promotes."""
    wrong = []
    kubectl("scale", MLFLOW, "--replicas=0")
    try:
        wait("MLflow is away", lambda: known_items("pods", "app.kubernetes.io/name=zoetrope-mlflow") == [], 120)
        run = start(runs)
        phase = run.ended(1500)
    finally:
        kubectl("scale", MLFLOW, "--replicas=1")
        kubectl("rollout", "status", MLFLOW, "--timeout=200s")
    steps = run.run_files.steps()
    if phase != "Failed" or "stage_3" not in steps or "promote" in steps:
        wrong.append(f"the run ended as {phase} with {', '.join(steps)}")
    codes = _exit_codes(run, "promote")
    if set(codes) != {EXIT_LATER}:
        wrong.append(f"promote ended with {codes}")
    zoetrope("runs", "retry", run.run_id)
    wait("the retry promotes", lambda: "promote" in run.run_files.steps(), 400)
    run.ended()
    late = wait("stage_1 is known to MLflow", lambda: run.run_files.steps()["stage_1"]["mlflow_run"], 120)
    if not _metrics(late):
        wrong.append(f"MLflow's run {late} has no metric of stage_1")
    status = (run.run_files.record() or {}).get("status")
    if status != "FINISHED":
        wrong.append(f"the run record says {status}")
    return [Seen(f"training ends well, promote {EXIT_LATER}, retry promotes, metrics arrive late", wrong)]


def _metrics(mlflow_run: str) -> list[str]:
    """Names of the metrics that MLflow has of one of its runs."""
    address = f"http://localhost:5000/api/2.0/mlflow/runs/get?run_id={mlflow_run}"
    asks = f"import urllib.request as r; print(r.urlopen('{address}').read().decode())"
    data = json.loads(kubectl("exec", MLFLOW, "--", "python3", "-c", asks))["run"]["data"]
    return [each["key"] for each in data.get("metrics", [])]


def _exit_codes(run: Run, step: str) -> list[int]:
    """The step's own exit codes. KFP's launcher ends with 1 whatever they were, and says them in its log."""
    found = items("pods", f"pipeline/runid={run.run_id},zoetrope/step={step}")
    logs = [log(pod["metadata"]["name"], "main") for pod in found]
    return [int(said[1]) for text in logs if (said := re.search(r"exit status (\d+)", text))]
