"""Which git remotes are accepted, and how we log in there."""

from __future__ import annotations

import base64
import re
import shlex
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from zoetrope.infra.errors import ZoetropeError

SCHEMES = ("https", "ssh", "git", "file")
_HINT = "write it like https://host/datasets.git, ssh://git@host/datasets.git or file:///folder"
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\]")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def checked_remote(url: str) -> str:
    """The URL, if git can be given it without running anything of its choosing.

    Git reads some URLs as commands (`ext::...`), some as options (`--upload-pack=...`), and hands host names to ssh,
    which has options too.

    Raises:
        ZoetropeError: another scheme, a password in the URL, or a name that is none.
    """
    if not url or any(ord(character) <= 32 or ord(character) == 127 for character in url) or "::" in url:
        raise ZoetropeError(f"dataset remote {url!r}: not a URL of a git repository", _HINT)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ZoetropeError(f"dataset remote {url!r}: not a URL of a git repository", _HINT) from error
    if parts.scheme not in SCHEMES:
        raise ZoetropeError(f"dataset remote {url!r}: the scheme is not one of {', '.join(SCHEMES)}", _HINT)
    if parts.password is not None:
        raise ZoetropeError(
            f"dataset remote at {parts.hostname}: the URL holds a password",
            "leave it out; set ZOETROPE_GIT_TOKEN (secret zoetrope-git, key token)",
        )
    if parts.query or parts.fragment or len(parts.path) < 2:
        raise ZoetropeError(f"dataset remote {url!r}: not a URL of a git repository", _HINT)
    if parts.scheme == "file":
        if parts.netloc:
            raise ZoetropeError(f"dataset remote {url!r}: a folder is written with three slashes", _HINT)
        return url
    host = parts.netloc.rpartition("@")[2]
    host = host.removesuffix(f":{port}") if port is not None else host
    if not _HOST.fullmatch(host) or (parts.username is not None and not _USER.fullmatch(parts.username)):
        raise ZoetropeError(f"dataset remote {url!r}: not the name of a host and user", _HINT)
    return url


class GitCredentials(BaseSettings):
    """Who we are at the dataset remote: keys of the optional secret `zoetrope-git`.

    Attributes:
        username: for https.
        token: access token or password for https.
        ssh_key: private key for ssh, as text; without one, ssh's own configuration is used.
        known_hosts: lines of `ssh-keyscan HOST`; needed with `ssh_key`, as unknown hosts are refused.
    """

    model_config = SettingsConfigDict(env_prefix="ZOETROPE_GIT_", extra="ignore")

    username: str = ""
    token: SecretStr = Field(default=SecretStr(""))
    ssh_key: SecretStr = Field(default=SecretStr(""))
    known_hosts: str = ""

    def environment(self, url: str, scratch: Path) -> dict[str, str]:
        """Variables for git; secrets stand in no command line, where other users would see them.

        Args:
            url: the remote; a token is sent nowhere else.
            scratch: folder for the key's file, which has to go when git is done.
        """
        ssh = ["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=20"]
        if key := self.ssh_key.get_secret_value():
            path = scratch / "key"
            path.touch(mode=0o600)
            path.write_text(key.rstrip("\n") + "\n", encoding="utf-8")
            ssh += ["-i", str(path), "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=yes"]
        if self.known_hosts:
            hosts = scratch / "known_hosts"
            hosts.write_text(self.known_hosts.rstrip("\n") + "\n", encoding="utf-8")
            ssh += ["-o", f"UserKnownHostsFile={hosts}"]
        variables = {"GIT_SSH_COMMAND": shlex.join(ssh), "GIT_ALLOW_PROTOCOL": ":".join(SCHEMES)}
        token = self.token.get_secret_value()
        if token and url.startswith("https://"):
            login = base64.b64encode(f"{self.username or 'git'}:{token}".encode()).decode()
            parts = urlsplit(url)
            variables |= {
                "GIT_CONFIG_COUNT": "1",
                "GIT_CONFIG_KEY_0": f"http.https://{parts.netloc.rpartition('@')[2]}/.extraHeader",
                "GIT_CONFIG_VALUE_0": f"Authorization: Basic {login}",
            }
        return variables
