"""Credentials stay with the origin that a request was made for, wherever a server redirects the client to.

httpx follows redirects beneath its `Auth`, and copies the headers of the first request into the next one. It leaves out
`Authorization` where the origin changes, but not from http to https on one host, and it leaves out no other header.
`bind` therefore hooks into httpcore's `trace` extension, which reports each request right before its headers are sent,
and takes the credentials out of those that go to another origin. A transport without that extension (a mock, an ASGI
application in this process) does as httpx does.
"""

from collections.abc import Awaitable, Mapping
from typing import Any, Final

import httpx

Origin = tuple[bytes, bytes, int | None]
"""Scheme, host, and a port that is not the scheme's own."""

_CREDENTIALS: Final = (b"authorization", b"chatgpt-account-id")
_EVENT: Final = "send_request_headers.started"


def origin_of(url: httpx.URL) -> Origin:
    """What two URLs must have in common to get the same credentials. httpx leaves out a scheme's own port."""
    return url.raw_scheme, url.raw_host, url.port


def bind(request: httpx.Request) -> None:
    """Keep the credentials of an `httpx.AsyncClient`'s request with its origin. A `trace` of the caller stays."""
    origin, theirs = origin_of(request.url), request.extensions.get("trace")

    async def trace(event: str, info: Mapping[str, Any]) -> None:
        if event.endswith(_EVENT) and info["request"].method != b"CONNECT":
            _strip(info["request"], origin)
        if theirs is not None:
            told: Awaitable[None] = theirs(event, info)
            await told

    request.extensions = {**request.extensions, "trace": trace}


def bind_sync(request: httpx.Request) -> None:
    """Keep the credentials of an `httpx.Client`'s request with its origin. A `trace` of the caller stays."""
    origin, theirs = origin_of(request.url), request.extensions.get("trace")

    def trace(event: str, info: Mapping[str, Any]) -> None:
        if event.endswith(_EVENT) and info["request"].method != b"CONNECT":
            _strip(info["request"], origin)
        if theirs is not None:
            theirs(event, info)

    request.extensions = {**request.extensions, "trace": trace}


def _strip(request: Any, origin: Origin) -> None:
    """Take the credentials out of a request of httpcore's that goes elsewhere."""
    url = request.url
    goes_to = (url.scheme, url.host, url.port)
    if not url.target.startswith(b"/"):  # a proxy that forwards is asked for the whole URL
        goes_to = origin_of(httpx.URL(url.target.decode("ascii")))
    if goes_to != origin:
        request.headers = [(name, value) for name, value in request.headers if name.lower() not in _CREDENTIALS]
