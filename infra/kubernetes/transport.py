"""Requests to the Kubernetes API: repeated while the server is away, refused with messages that people can act on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import urllib3

from zoetrope.infra.kubernetes.errors import GONE, NOT_FOUND, ApiRefusedError, explain
from zoetrope.infra.kubernetes.retry import OutageRetry

if TYPE_CHECKING:
    from kubernetes import client

CONNECT_SECONDS, READ_SECONDS = 5.0, 30.0
DEFAULT_RETRY_SECONDS = 20.0
Answer = TypeVar("Answer")
PREFIXES = {
    "trainjobs": "/apis/trainer.kubeflow.org/v1alpha1",
    "trainingruntimes": "/apis/trainer.kubeflow.org/v1alpha1",
    "workflows": "/apis/argoproj.io/v1alpha1",
    "jobsets": "/apis/jobset.x-k8s.io/v1alpha2",
    "jobs": "/apis/batch/v1",
    "pods": "/api/v1",
    "events": "/api/v1",
}


class Transport:
    """How one namespace of a cluster is asked.

    Args:
        api_client: configured client.
        namespace: where everything happens.
        retry_seconds: seconds that a call is repeated while the API server is away.
    """

    def __init__(
        self, api_client: client.ApiClient, namespace: str, retry_seconds: float = DEFAULT_RETRY_SECONDS
    ) -> None:
        from kubernetes import client

        self.namespace = namespace
        self.api_client = api_client
        self.core = client.CoreV1Api(api_client)
        self.host = str(api_client.configuration.host)
        self.retry_policy = OutageRetry(retry_seconds)

    def _path(self, kind: str, name: str = "") -> str:
        return f"{PREFIXES[kind]}/namespaces/{self.namespace}/{kind}" + (f"/{name}" if name else "")

    def _call(
        self,
        method: str,
        path: str,
        what: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        def send() -> dict[str, Any]:
            response = self._send(method, path, query or {}, body, (CONNECT_SECONDS, READ_SECONDS))
            answer: dict[str, Any] = json.loads(response.data)
            return answer

        return self._with_retries(what, path, send)

    def _open(
        self, method: str, path: str, what: str, query: Mapping[str, Any], *, timeout: tuple[float, float | None]
    ) -> urllib3.BaseHTTPResponse:
        return self._with_retries(what, path, lambda: self._send(method, path, query, None, timeout))

    def _with_retries(self, what: str, path: str, send: Callable[[], Answer]) -> Answer:
        try:
            return self.retry_policy.call(what, send)
        except ApiRefusedError as error:
            if (error.status == NOT_FOUND and not error.missing_resource) or error.status == GONE:
                raise
            raise explain(error, what, path, self.host, self.retry_policy.seconds) from error
        except urllib3.exceptions.HTTPError as error:
            raise explain(error, what, path, self.host, self.retry_policy.seconds) from error

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any],
        body: Mapping[str, Any] | None,
        timeout: tuple[float, float | None],
        accept: str = "application/json",
    ) -> urllib3.BaseHTTPResponse:
        from kubernetes.client.rest import ApiException

        headers = {"Accept": accept}
        if body is not None:
            merge = method == "PATCH"
            headers["Content-Type"] = "application/merge-patch+json" if merge else "application/json"
        try:
            response: urllib3.BaseHTTPResponse = self.api_client.call_api(
                path,
                method,
                query_params=list(query.items()),
                header_params=headers,
                body=body,
                auth_settings=["BearerToken"],
                _return_http_data_only=True,
                _preload_content=False,
                _request_timeout=timeout,
            )
        except ApiException as error:
            if not error.status:  # the client's word for certificates that are not accepted
                raise urllib3.exceptions.SSLError(str(error.reason).strip().splitlines()[-1]) from error
            text = error.body.decode(errors="replace") if isinstance(error.body, bytes) else str(error.body or "")
            raise ApiRefusedError(int(error.status), text) from error
        return response
