"""The logs of a job's nodes, line by line, across broken connections and replaced pods."""

from __future__ import annotations

import logging
import queue
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.kubernetes import Cluster, Stop, StreamBrokenError
from zoetrope.infra.kubernetes.jobs import is_terminal, pods_of
from zoetrope.infra.launch.trainjob import names
from zoetrope.infra.launch.trainjob.pods import History, Pod, index, started, terminated
from zoetrope.infra.launch.trainjob.state import belongs

log = logging.getLogger(__name__)
KEPT_LINES = 400
RECONNECT_SECONDS = 1.0
POLL_SECONDS = 2.0
# Two streams of a container are written side by side, so their lines' times are not quite in order.
DISORDER = timedelta(seconds=2)


class LogPosition:
    """Which lines of a log were seen, so that a new connection neither doubles nor loses any.

    Args:
        since: time of the first line that is wanted; a time without zone is local.
    """

    def __init__(self, since: datetime | None = None) -> None:
        self._since = since.astimezone(UTC).replace(microsecond=0) if since else None
        self._latest: datetime | None = None
        self._recent: deque[tuple[datetime, bytes]] = deque()
        self._again: Counter[bytes] = Counter()

    def connect(self) -> str:
        """Where the next connection has to begin (RFC 3339, whole seconds); empty for the beginning."""
        self._again = Counter(line for _, line in self._recent)
        begin = self._edge(self._latest) if self._latest else self._since
        return "" if begin is None else begin.astimezone(UTC).isoformat().replace("+00:00", "Z")

    def text(self, line: bytes) -> str | None:
        """The text of a line as the server sent it; None for one that was seen before."""
        if self._again[line] > 0:
            self._again[line] -= 1
            return None
        time, _, text = line.partition(b" ")
        try:
            when = datetime.fromisoformat(time.decode())
        except ValueError:
            return line.decode(errors="replace")
        self._latest = max(self._latest or when, when)
        self._recent.append((when, line))
        edge = self._edge(self._latest)
        while self._recent and self._recent[0][0] < edge:
            self._recent.popleft()
        return text.decode(errors="replace")

    @staticmethod
    def _edge(latest: datetime) -> datetime:
        return (latest - DISORDER).replace(microsecond=0)


class NodeLog:
    """Writes the log of node 0 while the job runs.

    Args:
        cluster: where the job runs.
        write: takes each line.
        stop: ends it.
    """

    def __init__(self, cluster: Cluster, write: Callable[[str], None], stop: Stop) -> None:
        self.tail: deque[str] = deque(maxlen=KEPT_LINES)
        self._cluster = cluster
        self._write = write
        self._stop = stop
        self._pods: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._uids: dict[str, str] = {}
        self._ended: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="log of node 0", daemon=True)
        self._thread.start()

    def see(self, pod: Pod, *, gone: bool = False) -> None:
        """Takes in news of a pod; those of other nodes are ignored."""
        uid, name = pod["metadata"]["uid"], pod["metadata"]["name"]
        if index(pod) != 0:
            return
        if gone or terminated(pod):
            self._ended.add(uid)
        if uid not in self._uids and started(pod):
            self._uids[uid] = name
            self._pods.put(uid)

    def finish(self, seconds: float) -> None:
        """Waits until everything was written, `seconds` at most."""
        self._pods.put(None)
        self._thread.join(seconds)

    def _run(self) -> None:
        try:
            while (uid := self._pods.get()) is not None and not self._stop.is_set:
                self._follow(uid, self._uids[uid])
        except ZoetropeError as error:
            log.warning("the job's log is not shown: %s", error.headline)

    def _follow(self, uid: str, name: str) -> None:
        position = LogPosition()
        if len(self._uids) > 1:
            self.tail.clear()
        while not self._stop.is_set:
            # What ended before a connection was made is in it to its end.
            complete = uid in self._ended
            if self._read(name, position, follow=not complete) and complete:
                return
            if self._stop.wait(0):
                return
            if uid not in self._ended and self._is_over(uid, name):
                self._ended.add(uid)
            elif uid not in self._ended:
                self._stop.wait(RECONNECT_SECONDS)

    def _read(self, name: str, position: LogPosition, *, follow: bool) -> bool:
        """Writes what is new; False where the connection broke."""
        try:
            for line in node_log(self._cluster, name, position, follow=follow, stop=self._stop):
                if self._stop.is_set:
                    return False
                self.tail.append(line)
                self._write(line)
        except StreamBrokenError:
            self._stop.wait(RECONNECT_SECONDS)
            return False
        return True

    def _is_over(self, uid: str, name: str) -> bool:
        pod = self._cluster.get("pods", name)
        return pod is None or pod["metadata"]["uid"] != uid or terminated(pod) is not None


def node_log(
    cluster: Cluster, pod: str, position: LogPosition, *, follow: bool = False, stop: Stop | None = None
) -> Iterator[str]:
    """The lines of a pod that `position` has not seen, until the connection or the container ends."""
    for line in cluster.log(pod, names.NODE, follow=follow, since=position.connect(), stop=stop):
        text = position.text(line)
        if text is not None:
            yield text


def log_tail(cluster: Cluster, pod: str, count: int = KEPT_LINES) -> list[str]:
    """The last lines of a pod; empty where it is gone."""
    try:
        return [line.partition(b" ")[2].decode(errors="replace") for line in cluster.log(pod, names.NODE, tail=count)]
    except StreamBrokenError:
        return []


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
                stop.wait(POLL_SECONDS)
                continue
            if ended:
                done.add(uid)
            if follow:
                continue
        if over or not follow:
            return
        stop.wait(POLL_SECONDS)


def _pod(cluster: Cluster, found: dict[str, object], job: str, number: int) -> Pod | None:
    pods = History.of(pod for pod in cluster.pods(pods_of(job)) if belongs(pod, found)).latest
    return next((record.pod for record in pods if index(record.pod) == number), None)
