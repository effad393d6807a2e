"""The minio client as the store uses it: settings, retries that say so, and errors that people can act on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.credentials import AWSConfigProvider, ChainedProvider, IamAwsProvider, Provider, StaticProvider
from minio.error import InvalidResponseError, S3Error, ServerError
from pydantic import AliasChoices, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict
from tenacity import RetryCallState, retry_if_exception_type, retry_if_result

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.retry import RetryPolicy, reason_of

log = logging.getLogger(__name__)
Result = TypeVar("Result")

CONNECT_SECONDS = 10.0
READ_SECONDS = 120.0
PASSING_STATUS = frozenset({429, 500, 502, 503, 504})
NOT_FOUND = frozenset({"NoSuchKey", "NoSuchObject", "ResourceNotFound"})
_REFUSED = frozenset({"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"})


class S3Settings(BaseSettings):
    """Where S3 is and who we are there, from the variables that other S3 clients read as well.

    Attributes:
        endpoint: URL of the server, `http://` for plain text; Amazon's by default.
        access_key: empty lets the client look for a profile file or the machine's role.
        secret_key: belongs to `access_key`.
        session_token: for temporary credentials.
        region: needed by Amazon; others mostly ignore it.
        attempts: tries of one request before it counts as failed.
        longest_wait: most seconds between two tries.
    """

    model_config = SettingsConfigDict(extra="ignore", populate_by_name=True)

    endpoint: str = Field(
        default="https://s3.amazonaws.com",
        validation_alias=AliasChoices("ZOETROPE_S3_ENDPOINT", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    )
    access_key: str = Field(default="", validation_alias="AWS_ACCESS_KEY_ID")
    secret_key: SecretStr = Field(default=SecretStr(""), validation_alias="AWS_SECRET_ACCESS_KEY")
    session_token: SecretStr = Field(default=SecretStr(""), validation_alias="AWS_SESSION_TOKEN")
    region: str = Field(default="us-east-1", validation_alias=AliasChoices("AWS_REGION", "AWS_DEFAULT_REGION"))
    attempts: int = Field(default=5, ge=1, validation_alias="ZOETROPE_S3_ATTEMPTS")
    longest_wait: float = Field(default=10.0, ge=0, validation_alias="ZOETROPE_S3_LONGEST_WAIT")

    @property
    def retry_policy(self) -> RetryPolicy:
        """How often one request is repeated."""
        return RetryPolicy(attempts=self.attempts, longest_wait=self.longest_wait)


def connect(settings: S3Settings) -> Minio:
    """A client; nothing is sent yet.

    Raises:
        ZoetropeError: the endpoint is no URL of a server.
    """
    parts = urlsplit(settings.endpoint)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.path.strip("/"):
        raise ZoetropeError(
            f"S3 endpoint {settings.endpoint!r}: not the URL of a server",
            "set ZOETROPE_S3_ENDPOINT like https://minio.example:9000",
        )
    return Minio(
        parts.netloc,
        secure=parts.scheme == "https",
        region=settings.region,
        credentials=_credentials(settings),
        http_client=_RetryingPool(settings),
    )


def again(call: Callable[[], Result], settings: S3Settings, what: str) -> Result:
    """Calls, and calls again while the answer breaks off."""
    passes = retry_if_exception_type(urllib3.exceptions.HTTPError)
    retrying = settings.retry_policy.retrying(passes, _saying(settings, what))
    return retrying(call)  # type: ignore[no-any-return]


@contextmanager
def explained(uri: str, settings: S3Settings) -> Iterator[None]:
    """Turns what the client raises into a ZoetropeError that names the object, the reason and the next step."""
    try:
        yield
    except S3Error as error:
        raise _explain(uri, error, settings) from error
    except (_NoAnswerError, ServerError, InvalidResponseError, urllib3.exceptions.HTTPError) as error:
        raise _silent(uri, settings, error) from error
    except ValueError as error:  # the client's word for bad names and missing credentials
        raise ZoetropeError(f"{uri}: {error}", "check the store's URI and AWS_ACCESS_KEY_ID") from error


class _NoAnswerError(Exception):
    """A request was sent as often as the settings allow."""


class _RetryingPool(urllib3.PoolManager):
    """Sends a request again after a fault that passes, and says so; the client's own retries are mute."""

    def __init__(self, settings: S3Settings) -> None:
        timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS)
        super().__init__(timeout=timeout, maxsize=16, retries=False)
        self._settings = settings

    def urlopen(self, method: str, url: str, redirect: bool = True, **keywords: Any) -> urllib3.BaseHTTPResponse:  # type: ignore[override]
        parts = urlsplit(url)
        what = f"S3 {method} {parts.scheme}://{parts.netloc}{parts.path}"
        passes = retry_if_exception_type(urllib3.exceptions.HTTPError) | retry_if_result(_asks_to_wait)
        # The last answer goes to the client, which knows what the server said.
        retrying = self._settings.retry_policy.retrying(
            passes, _saying(self._settings, what), retry_error_callback=_last_answer
        )
        return retrying(super().urlopen, method, url, redirect, **keywords)  # type: ignore[no-any-return]


def _saying(settings: S3Settings, what: str) -> Callable[[RetryCallState], None]:
    def say(state: RetryCallState) -> None:
        follows = f"try {state.attempt_number + 1} of {settings.attempts} follows"
        log.warning("%s: %s; %s", what, reason_of(state), follows)

    return say


def _asks_to_wait(response: urllib3.BaseHTTPResponse) -> bool:
    if response.status not in PASSING_STATUS:
        return False
    response.read(cache_content=True)  # the client reads it once more
    return True


def _last_answer(state: RetryCallState) -> Any:
    assert state.outcome is not None
    error = state.outcome.exception()
    if error is not None:
        # A type of its own, so that `again` does not begin from the start.
        raise _NoAnswerError(str(error)) from error
    return state.outcome.result()


def _credentials(settings: S3Settings) -> Provider:
    if settings.access_key:
        return StaticProvider(
            settings.access_key,
            settings.secret_key.get_secret_value(),
            settings.session_token.get_secret_value() or None,
        )
    return ChainedProvider([AWSConfigProvider(), IamAwsProvider()])


def _explain(uri: str, error: S3Error, settings: S3Settings) -> ZoetropeError:
    if error.code in NOT_FOUND:
        return ZoetropeError(f"{uri}: not in the store", "was it deleted? run the step that makes it again")
    if error.code == "NoSuchBucket":
        return ZoetropeError(f"{uri}: there is no such bucket at {settings.endpoint}", "create it, or fix the URI")
    if error.code in _REFUSED:
        return ZoetropeError(
            f"{uri}: S3 at {settings.endpoint} refuses: {error.code}",
            "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the bucket's policy",
        )
    passing = error.code in {"InternalError", "SlowDown", "ServiceUnavailable", "RequestTimeout", "OperationAborted"}
    return ZoetropeError(
        f"{uri}: S3 at {settings.endpoint}: {error.code}: {error.message}", "see its message", retryable=passing
    )


def _silent(uri: str, settings: S3Settings, error: Exception) -> ZoetropeError:
    return ZoetropeError(
        f"{uri}: S3 at {settings.endpoint} does not answer after {settings.attempts} tries: {error}",
        "check ZOETROPE_S3_ENDPOINT and the network, then run the same command again",
        retryable=True,
    )
