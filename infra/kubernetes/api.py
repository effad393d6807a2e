"""A small client for the Kubernetes API: plain dicts, retries that say so, errors that people can act on."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping
from typing import Any

import urllib3
from pydantic import Field

from zoetrope.infra.config import StrictModel
from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.kubernetes.errors import (
    FORBIDDEN,
    GONE,
    PASSING_STATUS,
    UNAUTHORIZED,
    ApiRefusedError,
    explain,
)
from zoetrope.infra.kubernetes.jobs import STOP_FIRST, is_stop_pending, pods_of, true_condition
from zoetrope.infra.kubernetes.streams import Stop, StreamBrokenError, lines
from zoetrope.infra.kubernetes.transport import CONNECT_SECONDS, DEFAULT_RETRY_SECONDS, READ_SECONDS, Transport

log = logging.getLogger(__name__)
LONGEST_WATCH = 300.0
SUSPEND_SECONDS, SUSPEND_POLL_SECONDS = 15.0, 0.3
Objects = list[dict[str, Any]]


class WatchedObject(StrictModel):
    """What a watch looks at.

    Attributes:
        kind: as in `transport.PREFIXES`.
        name: one object; empty for all that `labels` select.
        labels: that the objects must have.
    """

    kind: str
    name: str = ""
    labels: dict[str, str] = Field(default_factory=dict)

    @property
    def query(self) -> dict[str, Any]:
        """Query of the requests."""
        selected = {"fieldSelector": f"metadata.name={self.name}"} if self.name else {}
        return selected | _selector(self.labels)


class Cluster(Transport):
    """One namespace of a cluster: its objects, their changes, the logs of its pods."""

    @classmethod
    def connect(
        cls, namespace: str = "", context: str = "", *, retry_seconds: float = DEFAULT_RETRY_SECONDS
    ) -> Cluster:
        """The cluster around this pod, else that of the kubeconfig; nothing is sent yet.

        Args:
            namespace: empty takes the pod's or the context's.
            context: context of the kubeconfig; empty takes the pod's cluster, else the current context.
            retry_seconds: seconds that a call is repeated while the API server is away.

        Raises:
            ZoetropeError: there is no kubeconfig, or no such context in it.
        """
        from zoetrope.infra.kubernetes.credentials import configure

        api_client, default = configure(context)
        return cls(api_client, namespace or default, retry_seconds)

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        """The object, or None where there is none of this name."""
        try:
            return self._call("GET", self._path(kind, name), f"read {kind}/{name}")
        except ApiRefusedError:
            return None

    def list(self, kind: str, labels: Mapping[str, str] | None = None) -> Objects:
        """All objects that have `labels`."""
        found: Objects = self._list(WatchedObject(kind=kind, labels=dict(labels or {})))["items"]
        return found

    def each(self, kind: str, labels: Mapping[str, str] | None = None, *, page: int) -> Iterator[dict[str, Any]]:
        """All objects that have `labels`, of which no more than a page is held at once.

        Where the server forgets in the middle how far it came, it begins anew: objects may come twice.

        Args:
            kind: as in `transport.PREFIXES`.
            labels: that the objects must have; one with an empty value need only be there.
            page: how many objects one request asks for.
        """
        token = ""
        while True:
            query = _selector(labels or {}) | {"limit": str(page)} | ({"continue": token} if token else {})
            try:
                answer = self._call("GET", self._path(kind), f"list {kind}", query=query)
            except ApiRefusedError as error:
                if error.status != GONE or not token:
                    raise explain(error, f"list {kind}", self._path(kind), self.host, 0.0) from error
                token = ""
                continue
            yield from answer["items"]
            token = str(answer.get("metadata", {}).get("continue") or "")
            if not token:
                return

    def create(self, kind: str, body: Mapping[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        """Creates the object and returns what the server made of it; with `dry_run` it is only checked.

        Raises:
            AlreadyExistsError: there is one of this name.
        """
        what = f"create {kind}/{body['metadata'].get('name', '')}"
        query = {"dryRun": "All"} if dry_run else {}
        return self._call("POST", self._path(kind), what, query=query, body=body)

    def patch(self, kind: str, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Changes the fields in `body` (merge patch)."""
        try:
            return self._call("PATCH", self._path(kind, name), f"change {kind}/{name}", body=body)
        except ApiRefusedError as error:
            raise ZoetropeError(f"change {kind}/{name}: it is not there", "check the name") from error

    def remove_job(self, name: str) -> None:
        """Stops and deletes a TrainJob, so that none of its pods comes back.

        Trainer 2.3 may see the end of the JobSet before that of the TrainJob, and makes a new one then, which would
        run its pods once more. So the job is suspended first and deleted only when every controller has seen that:
        Trainer by its condition, JobSet's and Kubernetes' own by pods that end. Whoever is stopped while it waits
        leaves a job that holds nothing. It is not deleted in the foreground for the same reason.

        A job that somebody else has deleted, and that a finalizer keeps for this, goes the same way.
        """
        try:
            job = self.patch("trainjobs", name, {"spec": {"suspend": True}})
        except ZoetropeError as error:  # gone, or over: then nothing can come back
            log.debug("TrainJob %s is not suspended: %s", name, error.headline)
            job = {}
        until = time.monotonic() + SUSPEND_SECONDS
        while job and not self._is_at_rest(job) and time.monotonic() < until:
            time.sleep(SUSPEND_POLL_SECONDS)
            job = self.get("trainjobs", name) or {}
        self.delete("trainjobs", name)
        left = self.get("trainjobs", name)
        if left is not None and is_stop_pending(left):
            others = [each for each in left["metadata"]["finalizers"] if each != STOP_FIRST]
            try:
                self.patch("trainjobs", name, {"metadata": {"finalizers": others}})
            except ZoetropeError as error:  # somebody else did the same
                log.debug("TrainJob %s: %s", name, error.headline)

    def _is_at_rest(self, job: Mapping[str, Any]) -> bool:
        if not true_condition(job, "Suspended"):
            return False
        pods = self.pods(pods_of(str(job["metadata"]["name"])))
        return all(
            pod["metadata"].get("deletionTimestamp") or pod["status"].get("phase") in ("Succeeded", "Failed")
            for pod in pods
        )

    def delete(self, kind: str, name: str) -> None:
        """Deletes the object; nothing happens if it is not there."""
        try:
            self._call(
                "DELETE", self._path(kind, name), f"delete {kind}/{name}", body={"propagationPolicy": "Background"}
            )
        except ApiRefusedError:
            return

    def pods(self, labels: Mapping[str, str]) -> Objects:
        """Pods that have `labels`."""
        return self.list("pods", labels)

    def events(self, name: str) -> Objects:
        """Kubernetes events about the object called `name`, of whatever kind, oldest first."""
        query = {"fieldSelector": f"involvedObject.name={name}"}
        found = self._call("GET", self._path("events"), f"read events of {name}", query=query)["items"]
        return sorted(found, key=event_time)

    def watch(
        self,
        kind: str,
        name: str = "",
        timeout: float = 300.0,
        *,
        labels: Mapping[str, str] | None = None,
        stop: Stop | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Events {type: ADDED | MODIFIED | DELETED, object} of one object, or of all that have `labels`.

        Begins with the state that is there. A broken connection is made again, and what happened meanwhile is
        reported: an object that vanished while the API server was away comes as DELETED.

        Args:
            kind: as in `transport.PREFIXES`.
            name: of the object; empty for all that `labels` select.
            timeout: seconds after which the watch ends.
            labels: that the objects must have.
            stop: ends the watch from another thread.
        """
        target = WatchedObject(kind=kind, name=name, labels=dict(labels or {}))
        stop = stop or Stop()
        ends = time.monotonic() + timeout
        known: dict[str, dict[str, Any]] = {}
        version = ""
        while not stop.is_set and time.monotonic() < ends:
            if not version:
                listing = self._list(target)
                version = listing["metadata"]["resourceVersion"]
                yield from _changes(known, listing["items"])
                known = {item["metadata"]["uid"]: item for item in listing["items"]}
            seconds = min(LONGEST_WATCH, max(1.0, ends - time.monotonic()))
            for event in self._watch_once(target, version, seconds, stop):
                found = event["object"]
                if event["type"] == "ERROR":  # mostly 410: too long away for a continuation
                    version = ""
                    break
                version = found["metadata"]["resourceVersion"]
                if event["type"] == "BOOKMARK":
                    continue
                if event["type"] == "DELETED":
                    known.pop(found["metadata"]["uid"], None)
                else:
                    known[found["metadata"]["uid"]] = found
                yield event

    def log(
        self,
        pod: str,
        container: str,
        *,
        follow: bool = False,
        since: str = "",
        tail: int = 0,
        stop: Stop | None = None,
    ) -> Iterator[bytes]:
        """Lines of a container's log, each with its time in front.

        Ends with the container, or where the pod or its log is not there.

        Args:
            pod: name of the pod.
            container: name of the container in it.
            follow: waits for more.
            since: RFC 3339 time of the first line; its fraction of a second is ignored.
            tail: only so many last lines; 0 for all.
            stop: ends it from another thread.

        Raises:
            StreamBrokenError: the connection broke, or could not be made; there may be more lines.
        """
        query: dict[str, Any] = {"container": container, "timestamps": "true"}
        query |= {"follow": "true"} if follow else {}
        query |= {"sinceTime": since} if since else {}
        query |= {"tailLines": str(tail)} if tail else {}
        path, timeout = self._path("pods", pod) + "/log", (CONNECT_SECONDS, None if follow else READ_SECONDS)
        try:
            # No retries here: an answer can be missing because the node is away, and the caller comes again.
            yield from lines(self._send("GET", path, query, None, timeout), stop or Stop())
        except urllib3.exceptions.HTTPError as error:
            raise StreamBrokenError(str(error)) from error
        except ApiRefusedError as error:
            if error.status in PASSING_STATUS:
                raise StreamBrokenError(error.message) from error
            if error.status in (UNAUTHORIZED, FORBIDDEN):
                raise explain(error, f"read the log of {pod}", path, self.host, self.retry_policy.seconds) from error

    def _list(self, target: WatchedObject) -> dict[str, Any]:
        what = f"list {target.kind}"
        return self._call("GET", self._path(target.kind), what, query=target.query)

    def _watch_once(self, target: WatchedObject, version: str, seconds: float, stop: Stop) -> Iterator[dict[str, Any]]:
        query = target.query | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(int(seconds)),
        }
        # The server ends the watch by itself; a silence beyond that means that the connection is dead.
        timeout = (CONNECT_SECONDS, seconds + READ_SECONDS)
        try:
            path, what = self._path(target.kind), f"watch {target.kind}/{target.name}"
            for line in lines(self._open("GET", path, what, query, timeout=timeout), stop):
                yield json.loads(line)
        except urllib3.exceptions.HTTPError:
            # Not a busy loop: what comes next goes through `_open`, which waits between its tries.
            stop.wait(0.2)
        except ApiRefusedError as error:
            yield {"type": "ERROR", "object": {"code": error.status}}


def event_time(event: Mapping[str, Any]) -> str:
    """When a Kubernetes event happened last (RFC 3339)."""
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return str(next((time for time in times if time), event["metadata"].get("creationTimestamp", "")))


def _selector(labels: Mapping[str, str]) -> dict[str, str]:
    wanted = (f"{key}={value}" if value else key for key, value in sorted(labels.items()))
    return {"labelSelector": ",".join(wanted)} if labels else {}


def _changes(known: Mapping[str, dict[str, Any]], items: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """What happened between two listings."""
    present = {item["metadata"]["uid"] for item in items}
    for uid, item in known.items():
        if uid not in present:
            yield {"type": "DELETED", "object": item}
    for item in items:
        before = known.get(item["metadata"]["uid"])
        if before is None:
            yield {"type": "ADDED", "object": item}
        elif before["metadata"]["resourceVersion"] != item["metadata"]["resourceVersion"]:
            yield {"type": "MODIFIED", "object": item}
