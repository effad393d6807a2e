"""Asks the API server of Kubeflow Pipelines who it is, and says in one line what is wrong with it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import urllib3

from zoetrope.infra.errors import ServiceError, ZoetropeError
from zoetrope.infra.kubeflow.settings import HOST_HINT, KubeflowSettings

OLDEST = (2, 17)
CONNECT_SECONDS, READ_SECONDS = 10.0, 30.0
_PASSING = frozenset({429, 500, 502, 503, 504})


@dataclass(frozen=True)
class Health:
    """What the server says about itself.

    Attributes:
        version: release such as `2.17.0`; empty where the server was built without one.
        multi_user: whether runs live in namespaces of profiles.
    """

    version: str
    multi_user: bool


def health(settings: KubeflowSettings) -> Health:
    """The state of the server at `settings.host`.

    Raises:
        ZoetropeError: unknown host, expired token, another program's answer, or a version before 2.17.
    """
    url = f"{settings.host}/apis/v2beta1/healthz"
    try:
        answer = _get(settings, url)
    except urllib3.exceptions.HTTPError as error:
        raise unreachable(settings.host, error) from error
    if answer.status != 200:
        raise refused(settings.host, answer.status)
    found = _parse(settings.host, answer.data)
    version = re.sub(r"^v", "", str(found.get("tag_name") or ""))
    numbers = version_numbers(version)
    if numbers and numbers < OLDEST:
        raise ZoetropeError(
            f"Kubeflow Pipelines at {settings.host}: version {version} is too old",
            f"zoetrope needs {'.'.join(map(str, OLDEST))} or newer; upgrade, see docs/how-to/cluster.md",
        )
    return Health(version if numbers else "", bool(found.get("multi_user")))


def serves_pages(settings: KubeflowSettings) -> bool:
    """Whether a browser finds the UI at the host as well: the API server by itself has no pages."""
    try:
        answer = _get(settings, f"{settings.host}/")
    except urllib3.exceptions.HTTPError:
        return False
    return 300 <= answer.status < 400 or "html" in answer.headers.get("Content-Type", "")


def _get(settings: KubeflowSettings, url: str) -> urllib3.BaseHTTPResponse:
    pool = urllib3.PoolManager(
        cert_reqs="CERT_REQUIRED", ca_certs=str(settings.ca_file) if settings.ca_file else None, retries=False
    )
    timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS)
    return pool.request("GET", url, headers=settings.headers(), timeout=timeout, redirect=False)


def version_numbers(text: str) -> tuple[int, int] | None:
    """Major and minor number of a version, None where there is none in it."""
    match = re.match(r"v?(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else None


def unreachable(host: str, error: Exception) -> ZoetropeError:
    """The error for a server that does not answer."""
    reason = str(error)
    if "Name or service not known" in reason or "NameResolution" in reason or "getaddrinfo" in reason:
        return ZoetropeError(f"Kubeflow Pipelines at {host}: its name is unknown", HOST_HINT)
    if "CERTIFICATE" in reason.upper():
        return ZoetropeError(
            f"Kubeflow Pipelines at {host}: its certificate is not trusted",
            "name the certificate authority in ZOETROPE_KFP_CA_FILE",
        )
    if "SSL" in reason.upper() and "refused" not in reason and "timed out" not in reason.lower():
        return ZoetropeError(
            f"Kubeflow Pipelines at {host}: it does not speak TLS as asked (http instead of https?)", HOST_HINT
        )
    why = "connection refused" if "refused" in reason else "no answer"
    if "timed out" in reason.lower():
        why = "no answer in time"
    return ServiceError(f"Kubeflow Pipelines at {host}: {why}", HOST_HINT)


def refused(host: str, status: int, message: str = "") -> ServiceError:
    """The error for an answer that is none of ours."""
    name = f"Kubeflow Pipelines at {host}"
    if status == 401 or 300 <= status < 400:
        return ServiceError(
            f"{name}: the login is missing or has expired ({status})",
            "give a new token by --token-file or KFP_TOKEN, or cookies by KFP_COOKIES; see docs/how-to/cluster.md",
            status=status,
        )
    if status == 403:
        return ServiceError(
            f"{name}: not allowed (403){': ' + message if message else ''}",
            "the token may be expired or of another namespace; give --token-file, and --namespace of your profile",
            status=status,
        )
    if status == 404 and not message:
        return ServiceError(
            f"{name}: answers, but not with the API v2beta1 (404)",
            "the URL may need a path, e.g. https://kubeflow.example/pipeline",
            status=status,
        )
    if status in _PASSING:
        return ServiceError(
            f"{name}: server error ({status}){': ' + message if message else ''}",
            "try again",
            status=status,
            retryable=True,
        )
    return ServiceError(f"{name}: {message or 'refused'} ({status})", status=status)


def _parse(host: str, data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ZoetropeError(
            f"Kubeflow Pipelines at {host}: the answer is a web page, not the API",
            "the URL may need the path of the API or a login; see docs/how-to/cluster.md",
        )
    return found
