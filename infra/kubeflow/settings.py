"""Where Kubeflow Pipelines is and how we log in."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from zoetrope.infra.errors import ZoetropeError

HOST_HINT = "give --host URL or set ZOETROPE_KFP_HOST, e.g. http://localhost:8888 of `kubectl port-forward`"


class KubeflowSettings(BaseSettings):
    """The API server of Kubeflow Pipelines; options of the command line stand above the environment.

    Attributes:
        host: URL of the API server, or of Kubeflow's gateway with its path (`https://kubeflow.example/pipeline`).
        namespace: where runs live; the profile's namespace on a multi-user Kubeflow.
        token: bearer token.
        token_file: file with the token, read again for every command, so that it may be a rotated one.
        cookies: session cookies of the gateway, `authservice_session=...`, where it wants these instead of a token.
        ca_file: certificate authority of the host, PEM, where it is a private one.
        ui: address of the UI for a person's browser; empty where it is `host`, as behind a gateway.
    """

    model_config = SettingsConfigDict(extra="ignore", populate_by_name=True)

    host: str = Field(default="", validation_alias="ZOETROPE_KFP_HOST")
    namespace: str = Field(default="kubeflow", validation_alias="ZOETROPE_KFP_NAMESPACE")
    token: SecretStr = Field(default=SecretStr(""), validation_alias="KFP_TOKEN")
    token_file: Path | None = Field(default=None, validation_alias="ZOETROPE_KFP_TOKEN_FILE")
    cookies: SecretStr = Field(default=SecretStr(""), validation_alias="KFP_COOKIES")
    ca_file: Path | None = Field(default=None, validation_alias="ZOETROPE_KFP_CA_FILE")
    ui: str = Field(default="", validation_alias="ZOETROPE_KUBEFLOW_URL")

    def checked(self) -> KubeflowSettings:
        """These settings with a usable host; raises ZoetropeError where it is no URL or a file is not there."""
        if not self.host:
            raise ZoetropeError("no cluster is named", HOST_HINT)
        parts = urlsplit(self.host)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ZoetropeError(f"cluster {self.host!r}: not the URL of a server", HOST_HINT)
        if parts.username or parts.password:
            raise ZoetropeError("cluster URL: holds a password", "leave it out; give --token-file or KFP_TOKEN")
        if self.ca_file is not None and not self.ca_file.is_file():
            raise ZoetropeError(f"certificate authority {self.ca_file}: no such file", "fix ZOETROPE_KFP_CA_FILE")
        self.bearer()
        return self.model_copy(update={"host": self.host.rstrip("/")})

    def bearer(self) -> str:
        """The token, empty for none; raises ZoetropeError where its file cannot be read."""
        if self.token_file is None:
            return self.token.get_secret_value().strip()
        try:
            return self.token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no text"
            raise ZoetropeError(f"token file {self.token_file}: {reason}", "give --token-file FILE") from error

    def headers(self) -> dict[str, str]:
        """What a plain HTTP request needs to be let in."""
        headers = {"Accept": "application/json"}
        if token := self.bearer():
            headers["Authorization"] = f"Bearer {token}"
        if cookies := self.cookies.get_secret_value():
            headers["Cookie"] = cookies
        return headers
