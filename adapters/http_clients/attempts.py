"""The attempts to send one request of httpx or httpx2: which get a token, what they carry, and what a 401 means.

Nothing here waits, so the flows for both kinds of client share it. They differ in how they ask the engine.
"""

from collections.abc import Iterable
from typing import Any, Final

import httpx

from authstate.adapters.network.insecure_http import ensure_secure
from authstate.adapters.network.request_origin import origin_of
from authstate.engine.model.session import Authorization

RECOVERIES: Final = 2
"""A request is sent again at most so often."""

_ACCOUNT_HEADER: Final = "chatgpt-account-id"
_RAW_ACCOUNT_HEADER: Final = _ACCOUNT_HEADER.encode()


class Origins:
    """The origins whose requests get a token.

    Args:
        urls: URLs of these origins (scheme, host, port). None: every origin.

    Raises:
        InsecureTransport: one is an `http://` URL of another machine; see `insecure_http.ensure_secure`.
        TypeError: it is one URL instead of several.
    """

    def __init__(self, urls: Iterable[str] | None) -> None:
        if isinstance(urls, (str, httpx.URL)):
            raise TypeError("`origins` takes several URLs: write [url] for one")
        parsed = None if urls is None else [httpx.URL(url) for url in urls]
        for url in parsed or ():
            ensure_secure(str(url), "an origin of this EngineAuth")
        self._origins = None if parsed is None else frozenset(map(origin_of, parsed))

    def include(self, url: Any) -> bool:
        """Return whether a request to a URL gets a token.

        Raises:
            InsecureTransport: it would get one, and is an `http://` request to another machine.
        """
        if self._origins is not None and origin_of(url) not in self._origins:
            return False
        if url.scheme != "https":
            ensure_secure(str(url), f"a request to {url.host}")
        return True


def authorize(request: Any, authorization: Authorization) -> Any:
    """Put the token and the account id into the headers of a request, and return the request."""
    headers, values = request.headers, authorization.headers()
    for name, value in values.items():
        headers[name] = value
    if _ACCOUNT_HEADER not in values and any(name.lower() == _RAW_ACCOUNT_HEADER for name, _ in headers.raw):
        del headers[_ACCOUNT_HEADER]  # the caller's own
    return request


def is_refusal(response: Any, url: Any, authorization: Authorization) -> bool:
    """Return whether a 401 is for our token. A redirect to another origin, or from there, is sent without it.

    Args:
        response: the response with the 401, of the last redirect if the client followed any.
        url: the URL of the request.
        authorization: what the request was authorized with.
    """
    sent, token = response.request, authorization.headers()["Authorization"]
    return origin_of(sent.url) == origin_of(url) and bool(sent.headers.get("authorization") == token)
