"""The nodes of the workflow that Argo runs, as the API of Kubeflow Pipelines keeps it.

API v2beta1 tells of nodes without their ids, and of none that came later once Argo compresses them: a workflow above
1 MB, which a whole run is. API v1beta1 of the same server hands out the workflow itself, compressed nodes included,
also after Kubernetes has removed it.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

POD = "Pod"
_TRY = re.compile(r"\(\d+\)(?=\.|$)")


@dataclass(frozen=True)
class Node:
    """One node of a workflow.

    Attributes:
        name: Argo's own, e.g. `WORKFLOW(0).root(0).ingest(0).executor(1)`.
        path: the same below the workflow and without numbers of attempts, e.g. `root.ingest.executor`.
        kind: `Pod`, `DAG`, `Retry`, `Skipped`, ...
        phase: `Succeeded`, `Failed`, `Error`, `Running`, `Pending`, `Omitted`, `Skipped`.
        start: when it began, None where it did not.
        end: when it ended.
        message: why it failed.
    """

    name: str
    path: str
    kind: str
    phase: str
    start: datetime | None
    end: datetime | None
    message: str

    @property
    def numbered(self) -> bool:
        """Whether it is one attempt of the node that stands above it."""
        return self.name.endswith(")")


def node_path(name: str) -> str:
    """Where a node of that name stands below its workflow, without numbers of attempts."""
    return _TRY.sub("", name).partition(".")[2]


def workflow_nodes(workflow: Mapping[str, Any]) -> list[Node]:
    """The nodes of an Argo workflow, in the order in which they began; raises ValueError where they cannot be read."""
    status = workflow.get("status") or {}
    nodes = status.get("nodes")
    if not nodes and status.get("compressedNodes"):
        try:
            nodes = json.loads(gzip.decompress(base64.b64decode(status["compressedNodes"])))
        except (OSError, EOFError) as error:
            raise ValueError(str(error)) from error
    return sorted(map(_node, (nodes or {}).values()), key=lambda node: (node.start is not None, str(node.start)))


def terminated(workflow: Mapping[str, Any]) -> bool:
    """Whether somebody terminated the run: that is how KFP tells Argo, which ends it as one that failed."""
    return (workflow.get("spec") or {}).get("activeDeadlineSeconds") == 0


def _node(node: Mapping[str, Any]) -> Node:
    name = str(node["name"])
    return Node(
        name=name,
        path=node_path(name),
        kind=str(node.get("type", "")),
        phase=str(node.get("phase", "")),
        start=_time(node.get("startedAt")),
        end=_time(node.get("finishedAt")),
        message=" ".join(str(node.get("message") or "").split()),
    )


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def newest(nodes: Iterable[Node], path: str) -> Node | None:
    """The node at `path`, with all of its attempts as one; of repeated parents the latest."""
    found = [node for node in nodes if node.path == path]
    whole = [node for node in found if not node.numbered] or found
    return whole[-1] if whole else None


def pods(nodes: Iterable[Node], path: str) -> int:
    """How many pods were made for the node at `path`."""
    return sum(node.path == path and node.kind == POD for node in nodes)
