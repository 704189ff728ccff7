"""Sends credentials only to the origin that a request was made for, wherever a server redirects the client to.

httpx and httpx2 follow redirects after their `Auth` has run, and copy the headers of the first request into the next
one. They remove `Authorization` if the origin changes, but not from http to https on the same host. They remove no
other header. So this module uses the `trace` extension of httpcore, which reports each request just before its headers
are sent, and removes the credentials from requests to another origin. Transports without that extension (mocks, ASGI
applications in this process, aiohttp) behave as in httpx.
"""

from collections.abc import Mapping
from typing import Any, Final

import httpx
import msgspec

Origin = tuple[bytes, bytes, int | None]
"""Scheme, host, and the port unless it is the default of the scheme."""

_CREDENTIALS: Final = (b"authorization", b"chatgpt-account-id")


def origin_of(url: Any) -> Origin:
    """Return the origin of an `httpx.URL` or `httpx2.URL`, which leave out the default port of the scheme."""
    return url.raw_scheme, url.raw_host, url.port


def bind_to_origin(request: Any) -> None:
    """Send the credentials of a request of an async client only to its origin. A `trace` of the caller still runs."""
    extensions = request.extensions
    extensions["trace"] = _AsyncTrace(request.url, _callers(extensions["trace"]) if "trace" in extensions else None)


def bind_to_origin_sync(request: Any) -> None:
    """Send the credentials of a request of a sync client only to its origin. A `trace` of the caller still runs."""
    extensions = request.extensions
    extensions["trace"] = _SyncTrace(request.url, _callers(extensions["trace"]) if "trace" in extensions else None)


def _callers(trace: Any) -> Any:
    return trace.callers_trace if isinstance(trace, _Trace) else trace  # ours if the request was sent before


class _Trace(msgspec.Struct):
    """Called by httpcore or httpcore2 before and after each step of a request."""

    url: Any
    callers_trace: Any

    def _strip_credentials(self, event: str, info: Mapping[str, Any]) -> None:
        """Remove the credentials if the request goes to another origin."""
        if not event.endswith("send_request_headers.started") or info["request"].method == b"CONNECT":
            return
        request = info["request"]
        if _destination(request.url) != origin_of(self.url):
            request.headers = [(name, value) for name, value in request.headers if name.lower() not in _CREDENTIALS]


class _AsyncTrace(_Trace):
    async def __call__(self, event: str, info: Mapping[str, Any]) -> None:
        self._strip_credentials(event, info)
        if self.callers_trace is not None:
            await self.callers_trace(event, info)


class _SyncTrace(_Trace):
    def __call__(self, event: str, info: Mapping[str, Any]) -> None:
        self._strip_credentials(event, info)
        if self.callers_trace is not None:
            self.callers_trace(event, info)


def _destination(url: Any) -> Origin | None:
    """Return the origin that a request of httpcore goes to. None if unknown."""
    if url.target.startswith(b"/") or url.target == b"*":
        return url.scheme, url.host, url.port
    try:
        return origin_of(httpx.URL(url.target.decode("ascii")))  # a forwarding proxy gets the whole URL
    except (httpx.InvalidURL, ValueError):
        return None
