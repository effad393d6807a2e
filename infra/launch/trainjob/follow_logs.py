"""The log of any one node, for a person who looks at it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from zoetrope.infra.cluster import Cluster, Stop, StreamBrokenError
from zoetrope.infra.cluster.jobs import is_terminal, pods_of
from zoetrope.infra.launch.trainjob.logs import LogPosition, node_log
from zoetrope.infra.launch.trainjob.pods import History, Pod, index, started, terminated
from zoetrope.infra.launch.trainjob.state import belongs

LOOK_SECONDS = 2.0


def replica_lines(
    cluster: Cluster, job: str, number: int, *, since: datetime | None = None, follow: bool = False, stop: Stop
) -> Iterator[str]:
    """Lines of node `number`, without their times.

    Args:
        cluster: where the job runs.
        job: name of the TrainJob.
        number: of the node.
        since: time of the first line.
        follow: goes on until the job has ended, also with a pod that replaces another.
        stop: ends it from another thread.
    """
    done: set[str] = set()
    positions: dict[str, LogPosition] = {}
    while not stop.is_set:
        found = cluster.get("trainjobs", job)
        if found is None:
            return
        over = is_terminal(found) or bool(found["spec"].get("suspend"))
        pod = _pod(cluster, found, job, number)
        if pod is not None and pod["metadata"]["uid"] not in done and started(pod):
            uid, ended = pod["metadata"]["uid"], terminated(pod) is not None
            position = positions.setdefault(uid, LogPosition(since))
            try:
                yield from node_log(cluster, pod["metadata"]["name"], position, follow=follow and not ended, stop=stop)
            except StreamBrokenError:
                stop.wait(LOOK_SECONDS)
                continue
            if ended:
                done.add(uid)
            if follow:
                continue
        if over or not follow:
            return
        stop.wait(LOOK_SECONDS)


def _pod(cluster: Cluster, found: dict[str, object], job: str, number: int) -> Pod | None:
    pods = History.of(pod for pod in cluster.pods(pods_of(job)) if belongs(pod, found)).latest
    return next((record.pod for record in pods if index(record.pod) == number), None)
