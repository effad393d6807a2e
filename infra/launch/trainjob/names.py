"""Names, labels and reserved words of TrainJobs."""

from __future__ import annotations

import hashlib
import re
import secrets

from zoetrope.infra.errors import ZoetropeError

LONGEST_NAME = 40
"""Pods append `-node-0-0-xxxxx` and must stay within 63 characters."""
LONGEST_LABEL = 63

ZOETROPE = "zoetrope"
DIGEST, STORE, RESTARTS = "zoetrope/digest", "zoetrope/store", "zoetrope/restarts"
ROLE, APP, CANCELLED, RETRIES = "zoetrope/role", "zoetrope/app", "zoetrope/cancelled", "zoetrope/max-retries"

NODE = "node"
"""Trainer's name for the replicated job and its container."""
POD_INDEX = "batch.kubernetes.io/job-completion-index"
RESTART = "jobset.sigs.k8s.io/restart-attempt"
QUEUE = "kueue.x-k8s.io/queue-name"

RESERVED_ENVIRONMENT = frozenset(
    {"PET_NNODES", "PET_NPROC_PER_NODE", "PET_NODE_RANK", "PET_MASTER_ADDR", "PET_MASTER_PORT"}
)
"""Trainer sets them and refuses a job that brings its own."""

_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_VARIABLE = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")


def job_name(run_id: str, step: str, iteration: str = "") -> str:
    """The name of a step's job: the same for every attempt, different for every run, step and iteration."""
    parts = "\n".join(part.replace("%", "%25").replace("\n", "%0A") for part in (run_id, step, iteration))
    return "z" + hashlib.sha256(parts.encode()).hexdigest()[:24]


def unique_name(app_name: str) -> str:
    """A name that begins like the app's and that no other job has."""
    end = "-" + secrets.token_hex(4)
    start = re.sub(r"[^a-z0-9]+", "-", app_name.lower()).strip("-")
    start = start if start[:1].isalpha() else f"job-{start}"
    return start[: LONGEST_NAME - len(end)].strip("-") + end


def check_name(name: str) -> str:
    """Returns `name`; raises ZoetropeError where a TrainJob cannot be called so."""
    if len(name) > LONGEST_NAME or not _NAME.fullmatch(name):
        raise ZoetropeError(
            f"TrainJob name {name!r}: at most {LONGEST_NAME} of a-z, 0-9 and -, with a letter first",
            "take another name",
        )
    return name


def label_value(text: str) -> str:
    """`text` as the value of a label: other characters become dots, and too long ones end in a hash."""
    cleaned = re.sub(r"[^-A-Za-z0-9_.]", ".", text).strip("-_.")
    if len(cleaned) <= LONGEST_LABEL and cleaned == text:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return f"{cleaned[: LONGEST_LABEL - 13]}-{digest}".lstrip("-") if text else ""


def check_environment(names: set[str]) -> None:
    """Raises ZoetropeError for variables that Trainer or Kubernetes refuse."""
    if reserved := sorted(names & RESERVED_ENVIRONMENT):
        raise ZoetropeError(
            f"environment of the job: {', '.join(reserved)}: set by Kubeflow Trainer itself", "leave it out"
        )
    if wrong := sorted(name for name in names if not _VARIABLE.fullmatch(name)):
        raise ZoetropeError(f"environment of the job: {wrong[0]!r} is no name of a variable", "rename it")
