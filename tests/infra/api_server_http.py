"""The HTTP side of the small API server of conftest.py."""

from __future__ import annotations

import copy
import json
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


class Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        pass  # connections are broken on purpose


class Handler(BaseHTTPRequestHandler):
    api: Any  # the ApiServer of conftest.py
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def setup(self):
        super().setup()
        self.api._connections.add(self.connection)

    def finish(self):
        self.api._connections.discard(self.connection)
        super().finish()

    def _handle(self):
        api, parts = self.api, urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "null")
        api.requests.append((self.command, parts.path, query))
        words = parts.path.split("/namespaces/")[1].split("/")  # [namespace, kind, name?, sub?]
        kind, name = words[1], words[2] if len(words) > 2 else ""
        if kind in api.missing:
            return self._send(404, "404 page not found\n", plain=True)
        if (self.command, kind) in api.refusals:
            status, answer = api.refusals[self.command, kind]
            return self._send(status, answer)
        if len(words) > 3:
            return self._log(name, query)
        if query.get("watch"):
            return self._watch(kind, query)
        with api._changed:
            status, answer = getattr(self, f"_{self.command.lower()}")(kind, name, query, body)
        self._send(status, answer)
        api.run_hooks(self.command, kind, query, name or ((body or {}).get("metadata") or {}).get("name", ""))
        return None

    do_GET = do_POST = do_DELETE = do_PATCH = _handle

    def _get(self, kind, name, query, body):
        if name:
            item = self.api.objects.get((kind, name))
            return (200, item) if item else _not_found(kind, name)
        items = [item for (each, _), item in self.api.objects.items() if each == kind and _selected(item, query)]
        meta = {"resourceVersion": str(self.api._version)}
        if "limit" in query:
            start, compacted = (int(each) for each in query.get("continue", f"0-{self.api._compacted}").split("-"))
            if compacted < self.api._compacted:
                return 410, {"kind": "Status", "reason": "Expired", "message": "the continue token has expired"}
            end = start + int(query["limit"])
            meta |= {"continue": f"{end}-{compacted}"} if end < len(items) else {}
            items = items[start:end]
        return 200, {"metadata": meta, "items": items}

    def _post(self, kind, name, query, body):
        name = body["metadata"]["name"]
        if (kind, name) in self.api.objects:
            return 409, {"kind": "Status", "reason": "AlreadyExists", "details": {"name": name}, "message": "exists"}
        return (201, body) if query.get("dryRun") else (201, self.api.put(kind, body))

    def _patch(self, kind, name, query, body):
        if (kind, name) not in self.api.objects:
            return _not_found(kind, name)
        changed = self.api.change(kind, name, **body)
        if kind == "trainjobs" and (body.get("spec") or {}).get("suspend"):
            self.api.suspended(name)
        meta = changed["metadata"]
        if meta.get("deletionTimestamp") and meta.get("finalizers") == []:
            self.api.remove(kind, name)
        return 200, changed

    def _delete(self, kind, name, query, body):
        if (kind, name) not in self.api.objects:
            return _not_found(kind, name)
        if self.api.keep_deleted or self.api.objects[kind, name]["metadata"].get("finalizers"):
            return 200, self.api.change(kind, name, metadata={"deletionTimestamp": now()})
        self.api.remove(kind, name)
        return 200, {"kind": "Status", "status": "Success"}

    def _send(self, status, answer, plain=False):
        data = (answer if plain else json.dumps(answer)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if plain else "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _chunk(self, data):
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _watch(self, kind, query):
        api, seen = self.api, int(query["resourceVersion"])
        cuts, ends = api._cuts, time.monotonic() + float(query["timeoutSeconds"])
        self._stream()
        hooks = False
        while time.monotonic() < ends:
            with api._changed:
                if api._cuts != cuts or api._http is None:
                    self.close_connection = True
                    return
                if seen < api._compacted:
                    self._chunk(json.dumps({"type": "ERROR", "object": {"code": 410}}).encode() + b"\n")
                    break
                news = [entry for entry in api._log if entry[0] > seen and entry[1] == kind]
                for version, _, what, item in news:
                    seen = version
                    if _selected(item, query):
                        self._chunk(json.dumps({"type": what, "object": item}).encode() + b"\n")
            if not hooks:
                hooks = True
                api.run_hooks("GET", kind, query, "")
                continue
            with api._changed:
                if not any(entry[0] > seen and entry[1] == kind for entry in api._log) and seen >= api._compacted:
                    api._changed.wait(0.05)
        self.wfile.write(b"0\r\n\r\n")

    def _log(self, pod, query):
        api, cuts, at = self.api, self.api._cuts, 0
        if ("pods", pod) not in api.objects:
            return self._send(*_not_found("pods", pod))
        if not query.get("follow"):
            api.run_hooks("GET", "log", query, pod)
            if api._cuts != cuts:
                self.close_connection = True
                return None
        since = query.get("sinceTime", "")
        with api._changed:
            lines = [line for line in api.logs[pod] if not since or _time(line) >= datetime.fromisoformat(since)]
            at = len(api.logs[pod])
        if query.get("tailLines"):
            lines = lines[-int(query["tailLines"]) :]
        self._stream()
        hooks = False
        while True:
            for line in lines:
                self._chunk(line.encode() + b"\n")
            if not query.get("follow"):
                break
            if not hooks:
                hooks = True
                api.run_hooks("GET", "log", query, pod)
            with api._changed:
                if api._cuts != cuts or api._http is None:
                    self.close_connection = True
                    return None
                lines, at = api.logs[pod][at:], len(api.logs[pod])
                item = api.objects.get(("pods", pod))
                if not lines and (item is None or item["status"].get("phase") in ("Succeeded", "Failed")):
                    break
                if not lines:
                    api._changed.wait(0.05)
        self.wfile.write(b"0\r\n\r\n")
        return None


def _not_found(kind, name):
    return 404, {"kind": "Status", "reason": "NotFound", "details": {"name": name, "kind": kind}, "message": "none"}


def _selected(item, query):
    labels = item["metadata"].get("labels", {})
    for part in filter(None, query.get("labelSelector", "").split(",")):
        key, equals, value = part.partition("=")
        if key not in labels or (equals and labels[key] != value):
            return False
    for part in filter(None, query.get("fieldSelector", "").split(",")):
        path, _, value = part.partition("=")
        first, _, second = path.partition(".")
        if item[first].get(second) != value:
            return False
    return True


def merged(old, new):
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return copy.deepcopy(new)
    return {key: merged(old.get(key), new[key]) if key in new else copy.deepcopy(old[key]) for key in {**old, **new}}


def _time(line):
    return datetime.fromisoformat(line.partition(" ")[0])


def now():
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
