"""Asks a registry whether it holds an image, by one HEAD request (OCI distribution specification, `/v2/`)."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import Request, urlopen

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.images.reference import ImageReference
from zoetrope.infra.settings import docker_configuration

TIMEOUT_SECONDS = 20
_MANIFESTS = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
# Docker speaks to these without TLS unless it is configured otherwise.
_LOCAL = re.compile(r"(localhost|127(\.[0-9]{1,3}){3}|\[::1\])(:[0-9]+)?")
_DOCKER_HUB = "docker.io"
_DOCKER_HUB_KEY = "https://index.docker.io/v1/"


def digest_exists(reference: str, *, configuration: Path | None = None) -> bool:
    """Whether the registry holds this image.

    Args:
        reference: `HOST/PREFIX/NAME@sha256:...`.
        configuration: folder with docker's `config.json`, for its logins; default: the one that docker uses.

    Raises:
        ZoetropeError: no image by digest, the registry does not answer (retryable), or it asks for a login.
    """
    image = ImageReference.parse(reference)
    login = _login(image.host, configuration or docker_configuration())
    url = f"{_address(image.host)}/v2/{image.repository}/manifests/{image.digest}"
    headers = {"Accept": _MANIFESTS}
    status, answer = _ask(image.host, url, headers)
    if status == HTTPStatus.UNAUTHORIZED:
        headers["Authorization"] = _authorization(image, answer.get("www-authenticate", ""), login)
        status, answer = _ask(image.host, url, headers)
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        raise ZoetropeError(
            f"registry {image.host} refuses to show {image.repository} (HTTP {status})",
            f"docker login {image.host}, with an account that may pull it",
        )
    if status not in (HTTPStatus.OK, HTTPStatus.NOT_FOUND):
        raise ZoetropeError(f"registry {image.host} answers HTTP {status}", "try again later", retryable=True)
    return status == HTTPStatus.OK


def _address(host: str) -> str:
    if host == _DOCKER_HUB:
        return "https://registry-1.docker.io"
    return f"http://{host}" if _LOCAL.fullmatch(host) else f"https://{host}"


def _ask(host: str, url: str, headers: Mapping[str, str], method: str = "HEAD") -> tuple[int, dict[str, str]]:
    """Status and headers, the latter in lower case; the body of a GET under the empty name."""
    request = Request(url, headers=dict(headers), method=method)  # noqa: S310 - `_address` and `_safe` give the scheme
    try:
        with urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
            found = {name.lower(): value for name, value in answer.headers.items()}
            return answer.status, {**found, "": answer.read().decode("utf-8", "replace")}
    except HTTPError as error:
        with error:
            return error.code, {name.lower(): value for name, value in error.headers.items()}
    except (URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise ZoetropeError(
            f"registry {host} does not answer: {reason}",
            "check the name, the network and, for a certificate of your own, SSL_CERT_FILE",
            retryable=True,
        ) from error


def _authorization(image: ImageReference, challenge: str, login: str) -> str:
    """What the registry asked for: the login itself, or a token that its token server gives for it."""
    kind, _, rest = challenge.partition(" ")
    if kind.lower() != "bearer":
        return f"Basic {login}" if login else ""
    asked = dict(re.findall(r'([a-z]+)="([^"]*)"', rest))
    if not _safe(asked.get("realm", "")):
        return ""
    query = {"scope": f"repository:{image.repository}:pull"}
    if "service" in asked:
        query["service"] = asked["service"]
    headers = {"Authorization": f"Basic {login}"} if login else {}
    status, answer = _ask(image.host, f"{asked['realm']}?{urlencode(query)}", headers, "GET")
    if status != HTTPStatus.OK:
        return ""
    token = json.loads(answer[""])
    return f"Bearer {token.get('token') or token.get('access_token', '')}"


def _safe(realm: str) -> bool:
    """Whether a login may be sent there: by TLS, or to this machine."""
    parts = urlsplit(realm)
    return parts.scheme == "https" or (parts.scheme == "http" and _LOCAL.fullmatch(parts.netloc) is not None)


def _login(host: str, configuration: Path) -> str:
    """Name and password for a registry as HTTP's Basic wants them; empty without a login."""
    try:
        known: dict[str, Any] = json.loads((configuration / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        raise ZoetropeError(
            f"{configuration / 'config.json'} cannot be read: {error}", "docker login writes it"
        ) from error
    key = _DOCKER_HUB_KEY if host == _DOCKER_HUB else host
    helper = known.get("credHelpers", {}).get(host) or known.get("credsStore")
    if helper:
        return _from_helper(str(helper), key)
    for name in (key, f"https://{host}", f"https://{host}/v1/", f"https://{host}/v2/"):
        if entry := known.get("auths", {}).get(name):
            return str(entry.get("auth", ""))
    return ""


def _from_helper(helper: str, key: str) -> str:
    """Asks the program in which docker keeps its logins."""
    try:
        done = subprocess.run(
            [f"docker-credential-{helper}", "get"], input=key, capture_output=True, text=True, check=False
        )
        answer = json.loads(done.stdout) if done.returncode == 0 else {}
    except (OSError, ValueError):
        return ""
    pair = f"{answer.get('Username', '')}:{answer.get('Secret', '')}"
    return base64.b64encode(pair.encode()).decode() if answer else ""
