"""Credentials stay with the origin that a request was made for, wherever a server redirects the client to.

httpx follows redirects beneath its `Auth`, and copies the headers of the first request into the next one. It leaves out
`Authorization` where the origin changes, but not from http to https on one host, and it leaves out no other header.
`bind` therefore hooks into httpcore's `trace` extension, which reports each request right before its headers are sent,
and takes the credentials out of those that go to another origin. A transport without that extension (a mock, an ASGI
application in this process) does as httpx does.
"""

from collections.abc import Mapping
from typing import Any, Final

import httpx

Origin = tuple[bytes, bytes, int | None]
"""Scheme, host, and a port that is not the scheme's own."""

_CREDENTIALS: Final = (b"authorization", b"chatgpt-account-id")


def origin_of(url: httpx.URL) -> Origin:
    """What two URLs must have in common to get the same credentials. httpx leaves out a scheme's own port."""
    return url.raw_scheme, url.raw_host, url.port


def bind(request: httpx.Request) -> None:
    """Keep the credentials of an `httpx.AsyncClient`'s request with its origin. A `trace` of the caller stays."""
    request.extensions = {**request.extensions, "trace": _AsyncTrace(request)}


def bind_sync(request: httpx.Request) -> None:
    """Keep the credentials of an `httpx.Client`'s request with its origin. A `trace` of the caller stays."""
    request.extensions = {**request.extensions, "trace": _SyncTrace(request)}


class _Trace:
    """What httpcore calls before and after each step of a request."""

    def __init__(self, request: httpx.Request) -> None:
        theirs = request.extensions.get("trace")
        self._origin = origin_of(request.url)
        self._theirs: Any = theirs._theirs if isinstance(theirs, _Trace) else theirs  # it was sent before

    def _look(self, event: str, info: Mapping[str, Any]) -> None:
        """Take the credentials out of a request that goes elsewhere."""
        if not event.endswith("send_request_headers.started") or info["request"].method == b"CONNECT":
            return
        request = info["request"]
        if _goes_to(request.url) != self._origin:
            request.headers = [(name, value) for name, value in request.headers if name.lower() not in _CREDENTIALS]


class _AsyncTrace(_Trace):
    async def __call__(self, event: str, info: Mapping[str, Any]) -> None:
        self._look(event, info)
        if self._theirs is not None:
            await self._theirs(event, info)


class _SyncTrace(_Trace):
    def __call__(self, event: str, info: Mapping[str, Any]) -> None:
        self._look(event, info)
        if self._theirs is not None:
            self._theirs(event, info)


def _goes_to(url: Any) -> Origin | None:
    """Where a request of httpcore's goes; None where that is not known."""
    if url.target.startswith(b"/") or url.target == b"*":
        return url.scheme, url.host, url.port
    try:
        return origin_of(httpx.URL(url.target.decode("ascii")))  # a proxy that forwards is asked for the whole URL
    except (httpx.InvalidURL, ValueError):
        return None
