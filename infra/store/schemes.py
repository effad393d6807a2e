"""Which stores there are: one row for each scheme of a URI, with what pods need to open it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from zoetrope.infra.errors import ZoetropeError

LOCAL = "file"


@dataclass(frozen=True)
class Scheme:
    """One kind of store.

    Attributes:
        module: has `open_root(root: str) -> Store`; imported at first use.
        example: of a root, for messages.
        settings: variables of the ConfigMap `zoetrope-settings` that its client reads.
        secrets: variables of the Secret `zoetrope-store` that its client reads.
    """

    module: str
    example: str
    settings: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()


SCHEMES: Mapping[str, Scheme] = {
    LOCAL: Scheme("zoetrope.infra.store.local", "a path, file:///..."),
    "s3": Scheme(
        "zoetrope.infra.store.s3",
        "s3://bucket/prefix",
        settings=("ZOETROPE_S3_ENDPOINT", "AWS_REGION"),
        secrets=("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    ),
}
"""A store for another place is a module of its own and one line here."""


def scheme_name(root: str) -> str:
    """`file` for a path, else what stands before `://`."""
    return urlsplit(root).scheme if "://" in root else LOCAL


def scheme_of(root: str) -> Scheme:
    """The row of a root.

    Raises:
        ZoetropeError: there is no store of this scheme.
    """
    name = scheme_name(root)
    if name not in SCHEMES:
        examples = [scheme.example for scheme in SCHEMES.values()]
        raise ZoetropeError(
            f"store {root!r}: unknown scheme {name!r}", f"use {', '.join(examples[:-1])} or {examples[-1]}"
        )
    return SCHEMES[name]


def remote_schemes() -> list[str]:
    """Schemes of stores that pods and other machines see."""
    return [name for name in SCHEMES if name != LOCAL]


def is_remote(uri: str) -> bool:
    """Whether a text is a URI of a store that pods and other machines see."""
    return "://" in uri and scheme_name(uri) in remote_schemes()


def remote_example() -> str:
    """How such a URI looks, for messages."""
    return " or ".join(SCHEMES[name].example for name in remote_schemes())


def settings_keys() -> tuple[str, ...]:
    """Variables of all stores that are no secrets."""
    return tuple(key for scheme in SCHEMES.values() for key in scheme.settings)


def secret_keys() -> tuple[str, ...]:
    """Variables of all stores that are secrets."""
    return tuple(key for scheme in SCHEMES.values() for key in scheme.secrets)


def secrets_are_optional() -> bool:
    """Whether a pod may lack some of them: with more than one kind of store it holds those of one."""
    return sum(1 for scheme in SCHEMES.values() if scheme.secrets) > 1
