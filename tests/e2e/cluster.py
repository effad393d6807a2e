"""What the tests know of a cluster: runs, their jobs and pods, the store, and what was seen meanwhile."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.kubeflow import KubeflowSettings
from zoetrope.infra.kubernetes import Cluster
from zoetrope.infra.runs import RunFiles
from zoetrope.infra.store import get_json, open_store
from zoetrope.pipelines.kubeflow.client import Kubeflow

# DATASET_REMOTE: git URL of the data registry, as this machine reaches it.
NAMESPACE = os.environ.get("NAMESPACE", "kubeflow")
IMAGES = os.environ.get("IMAGES_LOCK", "images.lock")
RECIPE = str(Path(__file__).parents[1] / "recipes" / "faults.yaml")
ENDED = ("Succeeded", "Failed", "Error")


def kubectl(*arguments: str, check: bool = True) -> str:
    """Output of one call; empty where it fails and need not succeed."""
    done = subprocess.run(["kubectl", "-n", NAMESPACE, *arguments], text=True, capture_output=True, check=False)
    if done.returncode and check:
        raise RuntimeError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout if not done.returncode else ""


@cache
def connected() -> Cluster:
    """The API, without a process for each look."""
    return Cluster.connect(NAMESPACE, retry_seconds=5.0)


def items(kind: str, labels: str) -> list[dict[str, Any]]:
    """Objects of a kind by labels; none while the API server is away."""
    return known_items(kind, labels) or []


def known_items(kind: str, labels: str) -> list[dict[str, Any]] | None:
    """The same, but None while the API server is away: what cannot be seen is not gone."""
    wanted = dict(each.split("=") for each in labels.split(","))
    try:
        return connected().pods(wanted) if kind == "pods" else connected().list(kind, wanted)
    except ZoetropeError:
        return None


def log(pod: str, container: str = "") -> str:
    """The end of a pod's log; empty while there is none."""
    named = {"container": container} if container else {}
    try:
        text = connected().core.read_namespaced_pod_log(pod, NAMESPACE, tail_lines=300, **named)
    except (ApiException, HTTPError):
        return ""
    return str(text)


def zoetrope(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """The command line, as a user has it."""
    command = [str(Path(sys.executable).parent / "zoetrope"), *arguments]
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    if check and done.returncode:
        raise RuntimeError(f"zoetrope {' '.join(arguments)}: {done.stderr.strip()}")
    return done


def wait(what: str, found: Callable[[], Any], seconds: float, pause: float = 1.0) -> Any:
    """The first answer that is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answer = found()
        if answer:
            return answer
        time.sleep(pause)
    raise TimeoutError(f"{what}: not within {seconds:.0f} s")


def versions() -> dict[str, dict[str, str]]:
    """Tag -> dataset version of the registry."""
    shown = zoetrope("data", "versions", "--remote", os.environ["DATASET_REMOTE"], "--json").stdout
    return {each["tag"]: each for each in json.loads(shown)}


@cache
def version() -> dict[str, str]:
    """The dataset version that DATASET names; a registry that has none gets one from a run of the data pipeline."""
    if not versions():
        adopt(submitted("tests/recipes/tiny.yaml", pipeline="data").run_id)
    return versions()[os.environ.get("DATASET", "tiny-v1")]


def adopt(run_id: str) -> None:
    """As a person does after a run, for everybody."""
    with tempfile.TemporaryDirectory() as scratch:
        zoetrope("data", "adopt", run_id, "--remote", os.environ["DATASET_REMOTE"], "--push", "--store", scratch)


def submit(overrides: tuple[str, ...], lock: str) -> str:
    """As a user does, computing anew what earlier runs know; the run id."""
    sets = [text for each in overrides for text in ("--set", each)]
    given = ["--pipeline", "train", "--dataset", version()["reference"], "--images", lock, "--json", "--fresh"]
    given += ["--experiment", "faults"]
    return str(json.loads(zoetrope("submit", RECIPE, *given, *sets).stdout)["run"])


def submit_unchecked(overrides: tuple[str, ...], lock: str) -> str:
    """Without the checks that would refuse it."""
    from zoetrope.infra.images.lock import read_images
    from zoetrope.pipelines.definition.compile import compile_cluster
    from zoetrope.pipelines.definition.resolved import Resolved
    from zoetrope.pipelines.kubeflow import submission

    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "train.yaml"
        compile_cluster("train", Resolved.read(RECIPE, overrides), read_images(Path(lock)), path)
        package = submission.Package.read(path, "")
        given = {"overrides": "\n".join(overrides), "dataset": version()["reference"], "fresh": True}
        planned = submission.Submission(
            package, submission.arguments(package, given), "faults", package.version, "zoetrope-runner"
        )
        return submission.submit(kubeflow(), planned)


def kubeflow() -> Kubeflow:
    """The connection that ZOETROPE_KFP_HOST names."""
    return Kubeflow(KubeflowSettings())


class Run:
    """One submitted run, watched until it is closed.

    Attributes:
        run_id: of KFP.
        jobs: uid -> every TrainJob that was ever seen.
        pods: uid -> every pod that was ever seen on a node, of the jobs and of the steps.
    """

    def __init__(self, *overrides: str, checked: bool = True, lock: str = IMAGES) -> None:
        self.run_id = submit(overrides, lock) if checked else submit_unchecked(overrides, lock)
        self.jobs: dict[str, dict[str, Any]] = {}
        self.pods: dict[str, dict[str, Any]] = {}
        self.run_files = RunFiles(open_store(os.environ["ZOETROPE_STORE"]), self.run_id)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the watching."""
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(1.0):
            self.look()

    def look(self) -> None:
        """Notes what is there now."""
        for job in items("trainjobs", f"zoetrope/run={self.run_id}"):
            self.jobs[job["metadata"]["uid"]] = job
        for label in ("zoetrope/run", "pipeline/runid"):
            for pod in items("pods", f"{label}={self.run_id}"):
                if pod["status"].get("startTime") and "zoetrope/step" in pod["metadata"]["labels"]:
                    self.pods[pod["metadata"]["uid"]] = pod

    def of_step(self, step: str) -> list[dict[str, Any]]:
        """TrainJobs of a step that were ever seen."""
        return [job for job in self.jobs.values() if job["metadata"]["labels"]["zoetrope/step"] == step]

    def left(self) -> list[str]:
        """Names of TrainJobs and their pods that hold something now; what cannot be seen may be there."""
        jobs = known_items("trainjobs", f"zoetrope/run={self.run_id}")
        pods = known_items("pods", f"zoetrope/run={self.run_id}")
        if jobs is None or pods is None:
            return ["the API server is away"]
        held = [job for job in jobs if not conditions(job) & {"Complete", "Failed"}]
        held += [pod for pod in pods if pod["status"].get("phase") not in ("Succeeded", "Failed")]
        return [each["metadata"]["name"] for each in held]

    def job_pods(self, step: str) -> list[dict[str, Any]]:
        """Running pods of a step's job."""
        found = items("pods", f"zoetrope/run={self.run_id},zoetrope/step={step}")
        return [pod for pod in found if pod["status"]["phase"] == "Running"]

    def launcher(self, step: str) -> str:
        """Name of the running launcher pod of a step, empty where there is none."""
        found = items("pods", f"pipeline/runid={self.run_id},zoetrope/step={step}")
        running = [pod for pod in found if pod["status"]["phase"] == "Running"]
        return str(running[0]["metadata"]["name"]) if running else ""

    def workflow(self) -> dict[str, Any] | None:
        """The Argo Workflow, None where it is gone."""
        found = items("workflows", f"pipeline/runid={self.run_id}")
        return found[0] if found else None

    def is_deleted(self) -> bool:
        """Whether the workflow is known to be gone."""
        return known_items("workflows", f"pipeline/runid={self.run_id}") == []

    def phase(self) -> str:
        """Of the workflow."""
        return str(((self.workflow() or {}).get("status") or {}).get("phase", ""))

    def ended(self, seconds: float = 900) -> str:
        """The last phase, when the workflow has come to its end."""
        wait("the run ends", lambda: self.phase() in ENDED, seconds, 2.0)
        return self.phase()

    def training(self, step: str = "stage_1", after: int = 60, seconds: float = 400) -> int:
        """Returns in mid-training, with the step that was logged last; a checkpoint is in the store by then."""
        return int(wait(f"{step} trains", lambda: self._logged(step, after), seconds))

    def _logged(self, step: str, after: int) -> int:
        for pod in self.job_pods(step):
            lines = log(pod["metadata"]["name"]).splitlines()
            steps = [int(found[1]) for line in lines if (found := re.search(r"step (\d+) of ", line))]
            if steps and max(steps) >= after:
                return max(steps)
        return 0

    def final_loss(self, step: str = "stage_1") -> float:
        """Of a finished stage."""
        record = get_json(self.run_files.store, self.run_files.steps()[step]["record"])
        return float(record["metrics"]["final_loss"])

    def resumed_at(self, step: str = "stage_1") -> float:
        """Step at which the stage went on."""
        record = get_json(self.run_files.store, self.run_files.steps()[step]["record"])
        return float(record["metrics"]["resumed_at_step"])

    def verdict(self, step: str) -> ZoetropeError | None:
        """What the step left for its retries."""
        return self.run_files.verdicts.get(step)


def conditions(job: dict[str, Any]) -> set[str]:
    """Types of the conditions that hold."""
    return {each["type"] for each in job.get("status", {}).get("conditions", []) if each["status"] == "True"}


class Finished:
    """A run that has come to its end.

    Attributes:
        run_id: of KFP.
        exit_code: of `submit --wait`.
        seconds: that it took.
    """

    def __init__(self, run_id: str, exit_code: int = 0, seconds: float = 0.0) -> None:
        self.run_id, self.exit_code, self.seconds = run_id, exit_code, seconds
        self.run_files = RunFiles(open_store(os.environ["ZOETROPE_STORE"]), run_id)

    def states(self) -> dict[str, str]:
        """Step -> state, as `runs show` says."""
        shown = json.loads(zoetrope("runs", "show", self.run_id, "--json").stdout)
        return {each["step"]: each["state"] for each in shown["steps"]}

    def product(self, step: str) -> dict[str, Any]:
        """What a step made."""
        return dict(get_json(self.run_files.store, self.run_files.steps()[step]["product"]))

    def made_by(self, step: str) -> str:
        """The run in which a step was executed, which is another one where the cache answered."""
        return str(get_json(self.run_files.store, self.run_files.steps()[step]["record"])["run_id"])


def submitted(recipe: str, *sets: str, pipeline: str = "full", lock: str = IMAGES, fresh: bool = False) -> Finished:
    """`zoetrope submit --wait`."""
    given = ["--fresh"] if fresh else []
    given += [text for each in sets for text in ("--set", each)]
    begun = time.monotonic()
    done = zoetrope(
        "submit", recipe, "--pipeline", pipeline, "--images", lock, "--experiment", "e2e", "--wait", "--json", *given,
        check=False,
    )  # fmt: skip
    found = re.search(r'"run": "([^"]+)"', done.stdout)
    if not found:
        raise RuntimeError(f"zoetrope submit {recipe}: {done.stderr.strip()}")
    if done.returncode:
        print(done.stderr)
    return Finished(found[1], done.returncode, time.monotonic() - begun)


def working_set(pod: str) -> float:
    """Bytes that a pod cannot give back (usage less inactive files), by its kubelet; 0 where that tells nothing."""
    node = kubectl("get", "pod", pod, "-o", "jsonpath={.spec.nodeName}", check=False)
    text = kubectl("get", "--raw", f"/api/v1/nodes/{node}/proxy/stats/summary", check=False) if node else ""
    for each in json.loads(text)["pods"] if text else []:
        if (each["podRef"]["namespace"], each["podRef"]["name"]) == (NAMESPACE, pod):
            return float((each.get("memory") or {}).get("workingSetBytes") or 0)
    return 0.0


def after_jobs(run_id: str) -> dict[str, float]:
    """Step -> seconds from the end of its TrainJob to that of its launcher's main container."""
    complete: dict[str, float] = {}
    for job in items("trainjobs", f"zoetrope/run={run_id}"):
        ends = [each for each in job["status"]["conditions"] if each["type"] == "Complete" and each["status"] == "True"]
        if ends:
            complete[job["metadata"]["labels"]["zoetrope/step"]] = moment(ends[0]["lastTransitionTime"])
    found = {}
    for pod in items("pods", f"pipeline/runid={run_id}"):
        step = pod["metadata"]["labels"].get("zoetrope/step", "")
        for container in pod["status"].get("containerStatuses") or []:
            ended = (container.get("state") or {}).get("terminated")
            if container["name"] == "main" and ended and ended["exitCode"] == 0 and step in complete:
                found[step] = moment(ended["finishedAt"]) - complete[step]
    return found


def moment(text: str) -> float:
    """Seconds of a time of Kubernetes."""
    return datetime.fromisoformat(text).timestamp()
