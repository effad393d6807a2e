"""Addresses as they may be shown: without login, and without parameters that are one."""

from __future__ import annotations

import re

# Greedy up to the last `@` before a path, query or blank: passwords with an `@` of their own are common.
_LOGIN = re.compile(r"(?<=://)[^/?#\s'\"<>]*@")
_SECRET = re.compile(
    r"(?P<name>[?&;](?:password|passwd|pwd|pass|token|access_token|api_key|secret|signature|sig"
    r"|x-amz-signature|x-amz-credential|x-amz-security-token)=)[^&;\s#'\"<>]*",
    re.IGNORECASE,
)


def redacted(text: str) -> str:
    """`text` with the logins taken out of the addresses in it; anything else stays as it is.

    A user name goes with its password, since a token may stand in its place: `https://me:hush@host/x` becomes
    `https://host/x`, which a browser can still follow. References (`file:///x@sha256:...`) are not touched.

    Args:
        text: an address, or a sentence with addresses in it.
    """
    return _SECRET.sub(r"\g<name>***", _LOGIN.sub("", text))
