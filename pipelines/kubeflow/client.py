"""KFP's client with our settings, and its faults as one line."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from zoetrope.infra.errors import ServiceError
from zoetrope.infra.kubeflow import Health, KubeflowSettings, health
from zoetrope.infra.kubeflow.health import CONNECT_SECONDS, READ_SECONDS, refused, serves_pages, unreachable

PAGE = 100
TIMEOUT = (CONNECT_SECONDS, READ_SECONDS)


class Kubeflow:
    """A connection to Kubeflow Pipelines.

    Attributes:
        settings: where it is.
        health: what it says about itself.
        namespace: the namespace of runs on a multi-user Kubeflow, None elsewhere: the API takes none there.
    """

    def __init__(self, settings: KubeflowSettings) -> None:
        """Raises ZoetropeError for an unknown host, an expired token, another API or a version that is too old."""
        self.settings = settings.checked()
        self.health: Health = health(self.settings)
        self.namespace = self.settings.namespace if self.health.multi_user else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import kfp

            self._client = kfp.Client(
                host=self.settings.host,
                namespace=self.settings.namespace,
                existing_token=self.settings.bearer() or None,
                cookies=self.settings.cookies.get_secret_value() or None,
                ssl_ca_cert=str(self.settings.ca_file) if self.settings.ca_file else None,
            )
        self.models: Any = self._client.api_models

    def call(self, service: str, method: str, **arguments: Any) -> Any:
        """One call of a generated API, e.g. `call("runs", "run_service_get_run", run_id=...)`."""
        with self._faults():
            return getattr(getattr(self._client, service), method)(**arguments, _request_timeout=TIMEOUT)

    def workflow(self, run_id: str) -> dict[str, Any] | None:
        """Argo's Workflow of a run as the server keeps it; None where it no longer has API v1beta1.

        That is the only one which hands out the Workflow, compressed nodes included, also when Kubernetes has none.
        """
        try:
            with self._faults():
                found = self._client.runs.api_client.call_api(
                    "/apis/v1beta1/runs/{run_id}", "GET", {"run_id": run_id}, [], {"Accept": "application/json"},
                    response_type="object", auth_settings=["Bearer"], _return_http_data_only=True,
                    _request_timeout=TIMEOUT,
                )  # fmt: skip
        except ServiceError as error:
            if not error.not_found:
                raise
            return None
        text = ((found or {}).get("pipeline_runtime") or {}).get("workflow_manifest")
        parsed = json.loads(text) if text else None
        return parsed if isinstance(parsed, dict) else None

    def pages(self, service: str, method: str, field: str, **arguments: Any) -> Iterator[Any]:
        """All entries of a list call, page by page."""
        token = ""
        while True:
            arguments.setdefault("page_size", PAGE)
            answer = self.call(service, method, page_token=token, **arguments)
            yield from getattr(answer, field) or []
            token = answer.next_page_token or ""
            if not token:
                return

    def by_name(self, listing: Callable[[str], Iterator[Any]], name: str) -> Any | None:
        """The one entry with that display name, found by the server's own filter."""
        predicate = {"operation": "EQUALS", "key": "name", "stringValue": name}
        for entry in listing(json.dumps({"predicates": [predicate]})):
            if name in (entry.display_name, getattr(entry, "name", None)):
                return entry
        return None

    def link(self, run_id: str) -> str:
        """Address of a run for a person's browser; empty where nobody has said where the UI is.

        Behind a gateway UI and API have one host; a forwarded API server alone has no UI.
        """
        root = self.settings.ui or (self.settings.host if serves_pages(self.settings) else "")
        return f"{root.rstrip('/')}/#/runs/details/{run_id}" if root else ""

    @contextmanager
    def _faults(self) -> Iterator[None]:
        import urllib3
        from kfp_server_api import ApiException

        try:
            yield
        except ApiException as error:
            if not error.status:
                raise unreachable(self.settings.host, Exception(error.reason)) from error
            raise refused(self.settings.host, int(error.status), _message(error.body)) from error
        except urllib3.exceptions.HTTPError as error:
            raise unreachable(self.settings.host, error) from error


def _message(body: Any) -> str:
    """The reason in KFP's own words, which stand behind a chain of its own function names."""
    try:
        said = json.loads(body)
    except (TypeError, ValueError):
        return ""
    text = str(said.get("message") or said.get("error_message") or "") if isinstance(said, dict) else ""
    return " ".join(text.split())[:300]
