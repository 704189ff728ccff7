"""Sends credentials only to the origin that a request was made for, wherever a server redirects the client to.

httpx follows redirects after its `Auth` has run, and copies the headers of the first request into the next one. It
removes `Authorization` if the origin changes, but not from http to https on the same host. It removes no other header.
So this module uses the `trace` extension of httpcore, which reports each request just before its headers are sent, and
removes the credentials from requests to another origin. Transports without that extension (mocks, ASGI applications in
this process) behave as in httpx.
"""

from collections.abc import Mapping
from typing import Any, Final

import httpx

Origin = tuple[bytes, bytes, int | None]
"""Scheme, host, and the port unless it is the default of the scheme."""

_CREDENTIALS: Final = (b"authorization", b"chatgpt-account-id")


def origin_of(url: httpx.URL) -> Origin:
    """Return the origin of a URL. httpx leaves out the default port of the scheme."""
    return url.raw_scheme, url.raw_host, url.port


def bind_to_origin(request: httpx.Request) -> None:
    """Send the credentials of an `httpx.AsyncClient` request only to its origin. A `trace` of the caller still runs."""
    request.extensions = {**request.extensions, "trace": _AsyncTrace(request)}


def bind_to_origin_sync(request: httpx.Request) -> None:
    """Send the credentials of an `httpx.Client` request only to its origin. A `trace` of the caller still runs."""
    request.extensions = {**request.extensions, "trace": _SyncTrace(request)}


class _Trace:
    """Called by httpcore before and after each step of a request."""

    def __init__(self, request: httpx.Request) -> None:
        callers_trace = request.extensions.get("trace")
        self._origin = origin_of(request.url)
        self._callers_trace: Any = (
            callers_trace._callers_trace if isinstance(callers_trace, _Trace) else callers_trace
        )  # the request was sent before

    def _strip_credentials(self, event: str, info: Mapping[str, Any]) -> None:
        """Remove the credentials if the request goes to another origin."""
        if not event.endswith("send_request_headers.started") or info["request"].method == b"CONNECT":
            return
        request = info["request"]
        if _destination(request.url) != self._origin:
            request.headers = [(name, value) for name, value in request.headers if name.lower() not in _CREDENTIALS]


class _AsyncTrace(_Trace):
    async def __call__(self, event: str, info: Mapping[str, Any]) -> None:
        self._strip_credentials(event, info)
        if self._callers_trace is not None:
            await self._callers_trace(event, info)


class _SyncTrace(_Trace):
    def __call__(self, event: str, info: Mapping[str, Any]) -> None:
        self._strip_credentials(event, info)
        if self._callers_trace is not None:
            self._callers_trace(event, info)


def _destination(url: Any) -> Origin | None:
    """Return the origin that a request of httpcore goes to. None if unknown."""
    if url.target.startswith(b"/") or url.target == b"*":
        return url.scheme, url.host, url.port
    try:
        return origin_of(httpx.URL(url.target.decode("ascii")))  # a forwarding proxy gets the whole URL
    except (httpx.InvalidURL, ValueError):
        return None
