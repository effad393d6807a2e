"""Asks the API server of Kubeflow Pipelines who it is, and says in one line what is wrong with it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import urllib3

from zoetrope.infra.errors import ZoetropeError
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
        why = "its name is unknown"
    elif "refused" in reason:
        why = "connection refused"
    elif "CERTIFICATE" in reason.upper():
        return ZoetropeError(
            f"Kubeflow Pipelines at {host}: its certificate is not trusted",
            "name the certificate authority in ZOETROPE_KFP_CA_FILE",
        )
    elif "timed out" in reason.lower():
        why = "no answer in time"
    elif "SSL" in reason.upper():
        why = "it does not speak TLS as asked (http instead of https?)"
    else:
        why = "no answer"
    return ZoetropeError(f"Kubeflow Pipelines at {host}: {why}", HOST_HINT)


def refused(host: str, status: int, message: str = "") -> ZoetropeError:
    """The error for an answer that is none of ours."""
    name = f"Kubeflow Pipelines at {host}"
    if status == 401 or 300 <= status < 400:
        return ZoetropeError(
            f"{name}: the login is missing or has expired ({status})",
            "give a new token by --token-file or KFP_TOKEN, or cookies by KFP_COOKIES; see docs/how-to/cluster.md",
        )
    if status == 403:
        return ZoetropeError(
            f"{name}: not allowed (403){': ' + message if message else ''}",
            "the token may be expired or of another namespace; give --token-file, and --namespace of your profile",
        )
    if status == 404 and not message:
        return ZoetropeError(
            f"{name}: answers, but not with the API v2beta1 (404)",
            "the URL may need a path, e.g. https://kubeflow.example/pipeline",
        )
    if status in _PASSING:
        return ZoetropeError(
            f"{name}: server error ({status}){': ' + message if message else ''}", "try again", retryable=True
        )
    return ZoetropeError(f"{name}: {message or 'refused'} ({status})", "")


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
