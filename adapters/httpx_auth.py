"""Authorized requests with httpx: put the header on, and after a 401 recover and send the request again.

    async with httpx.AsyncClient(auth=EngineAuth(engine)) as client:
        response = await client.get(url)

This module imports httpx: import it when the first request is near.
"""

from collections.abc import AsyncGenerator, Generator, Iterable
from typing import Final, Protocol

import httpx

from authstate.engine.authorization import Authorization
from authstate.engine.errors import NotSignedIn, RecoveryExhausted

_RECOVERIES: Final = 2
_ACCOUNT_HEADER: Final = "chatgpt-account-id"
_PORTS: Final = {"http": 80, "https": 443}


class Authorizer(Protocol):
    """What is needed of an `AuthEngine`."""

    async def authorization(self) -> Authorization:
        """A token that is good to use."""

    async def recover(self, refused: Authorization) -> Authorization:
        """What to send the request again with after a 401."""


class EngineAuth(httpx.Auth):
    """Authorizes the requests of an `httpx.AsyncClient` with an engine.

    A request that is refused with 401 is sent again with a newer token, at most twice. The body is read into memory
    first, so that it can be sent again. Any number of clients, requests and tasks of one event loop may share it.

    What a request raises: `NotSignedIn` before it is sent when nobody is signed in; `PermanentRefreshError` (sign in
    again) and `TransientAuthError` (try again later; a parent that did not answer is `ParentUnavailable`) when there is
    no newer token. Where the mode has no recovery, as with an API key, or another account signed in meanwhile, the
    response with the 401 is the answer.

    Args:
        engine: the engine.
        origins: URLs whose origins (scheme, host, port) get the token; requests to others are sent without it. By
            default every request of the client gets it. Either way, a redirect to another origin never takes it along.
    """

    requires_request_body = True

    def __init__(self, engine: Authorizer, origins: Iterable[str] | None = None) -> None:
        self._engine = engine
        self._origins = None if origins is None else frozenset(_origin(httpx.URL(url)) for url in origins)

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """The flow that httpx drives. Cancelling the request does not cancel a refresh that others wait for."""
        origin = _origin(request.url)
        if self._origins is not None and origin not in self._origins:
            yield request
            return
        await request.aread()
        authorization = await self._engine.authorization()
        response = yield _authorize(request, authorization)
        for _ in range(_RECOVERIES):
            if response.status_code != 401 or _origin(response.request.url) != origin:
                return
            try:
                newer = await self._engine.recover(authorization)
            except (NotSignedIn, RecoveryExhausted):
                return
            if newer.account_id != authorization.account_id:
                return
            authorization = newer
            response = yield _authorize(request, authorization)

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Refused: the engine lives in an event loop.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError("EngineAuth works with httpx.AsyncClient only: use that instead of httpx.Client")


def _authorize(request: httpx.Request, authorization: Authorization) -> httpx.Request:
    request.headers.pop(_ACCOUNT_HEADER, None)
    request.headers.update(authorization.headers())
    return request


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port or _PORTS.get(url.scheme)
