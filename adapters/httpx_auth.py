"""Authorizes httpx requests: adds the headers, and after a 401 recovers and sends the request again.

    async with httpx.AsyncClient(auth=EngineAuth(engine)) as client:
        response = await client.get(url)

From code without an event loop, use a portal of anyio, which runs the engine in an event loop of another thread:

    with start_blocking_portal() as portal, portal.wrap_async_context_manager(engine):
        with httpx.Client(auth=SyncEngineAuth(engine, portal)) as client:
            response = client.get(url)

This module imports httpx. Import it shortly before the first request.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable
from typing import TYPE_CHECKING, Final, NoReturn, Protocol, TypeVar

import httpx

from authstate.adapters.network.insecure_http import ensure_secure
from authstate.adapters.network.request_origin import bind_to_origin, bind_to_origin_sync, origin_of
from authstate.engine.model.errors import NotSignedIn, RecoveryExhausted
from authstate.engine.model.session import Authorization

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal

_T = TypeVar("_T")

_RECOVERIES: Final = 2
_ACCOUNT_HEADER: Final = "chatgpt-account-id"


class Authorizer(Protocol):
    """The part of an `AuthEngine` that is used here."""

    async def authorization(self) -> Authorization:
        """Return a valid token."""
        ...

    async def recover(self, refused: Authorization) -> Authorization:
        """Return the token for a second attempt after a 401."""
        ...


class _Authorized(httpx.Auth):
    """The shared parts of the flows for both kinds of client."""

    def __init__(self, engine: Authorizer, origins: Iterable[str] | None = None) -> None:
        self._engine = engine
        urls = None if origins is None else [httpx.URL(url) for url in origins]
        for url in urls or ():
            ensure_secure(str(url), "an origin of this EngineAuth")
        self._origins = None if urls is None else frozenset(map(origin_of, urls))

    def _is_meant_for(self, request: httpx.Request) -> bool:
        """Return whether a request gets a token. Raises InsecureTransport."""
        if self._origins is not None and origin_of(request.url) not in self._origins:
            return False
        ensure_secure(str(request.url), f"a request to {request.url.host}")
        return True

    async def _authorized(self, request: httpx.Request) -> Authorization:
        return await _in_time(request, self._engine.authorization)

    async def _recovered(self, request: httpx.Request, refused: Authorization) -> Authorization | None:
        """Return the token for the next attempt. None if the caller gets the response with the 401."""
        try:
            newer = await _in_time(request, lambda: self._engine.recover(refused))
        except (NotSignedIn, RecoveryExhausted):
            return None
        return newer if newer.is_same_account_as(refused) else None


class EngineAuth(_Authorized):
    """Authorizes the requests of an `httpx.AsyncClient` with an engine.

    A request that gets a 401 is sent again with a newer token, at most twice. A parent is asked once. The body is read
    into memory first, so that it can be sent again. Clients and tasks of one event loop can share an instance.

    The caller gets the response with the 401 if the mode has no recovery (an API key), or if another account has signed
    in meanwhile. A request raises:

    - `InsecureTransport`: it is an `http://` URL of another machine. Nothing was sent.
    - `NotSignedIn`: nobody is signed in. Nothing was sent.
    - `PermanentRefreshError`: there is no newer token; sign in again.
    - `TransientAuthError`: there is no newer token now; try again later (`ParentUnavailable` for a parent).
    - `httpx.PoolTimeout`: the engine took longer than the pool timeout of the request (5 seconds by default). A running
      refresh continues and serves the next request.

    Args:
        engine: the engine.
        origins: URLs whose origins (scheme, host, port) get the token. Requests to other origins are sent without it.
            By default, every request gets it. A redirect to another origin (https on the same host is one) never
            carries the token or the account id, and its 401 is returned to the caller: see `network/request_origin.py`.

    Raises:
        InsecureTransport: an origin is an `http://` URL of another machine; see `insecure_http.ensure_secure`.
    """

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Called by httpx. Cancelling the request does not cancel a refresh that others wait for."""
        if not self._is_meant_for(request):
            yield request
            return
        url = request.url
        await request.aread()
        bind_to_origin(request)
        authorization = await self._authorized(request)
        response = yield _authorize(request, authorization)
        for _ in range(_RECOVERIES):
            if not _is_refusal(response, url, authorization):
                return
            newer = await self._recovered(request, authorization)
            if newer is None:
                return
            authorization = newer
            response = yield _authorize(request, authorization)

    def sync_auth_flow(self, request: httpx.Request) -> NoReturn:
        """Not supported: the engine runs in an event loop.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError("EngineAuth is for httpx.AsyncClient: give httpx.Client a SyncEngineAuth")


class SyncEngineAuth(_Authorized):
    """Authorizes the requests of an `httpx.Client` with an engine that runs in the event loop of another thread.

    It behaves like `EngineAuth` and raises the same errors. Clients and threads can share an instance: each waits by
    itself, and many concurrent 401s cost one refresh. A request also raises RuntimeError in the thread of the engine's
    event loop, and after the portal has stopped.

    Args:
        engine: the engine.
        portal: the portal to the event loop that the engine was started in.
        origins: see `EngineAuth`.
    """

    def __init__(self, engine: Authorizer, portal: "BlockingPortal", origins: Iterable[str] | None = None) -> None:
        super().__init__(engine, origins)
        self._portal = portal

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Called by httpx. Interrupting the waiting thread does not cancel a refresh."""
        if not self._is_meant_for(request):
            yield request
            return
        url = request.url
        request.read()
        bind_to_origin_sync(request)
        authorization = self._portal.call(self._authorized, request)
        response = yield _authorize(request, authorization)
        for _ in range(_RECOVERIES):
            if not _is_refusal(response, url, authorization):
                return
            newer = self._portal.call(self._recovered, request, authorization)
            if newer is None:
                return
            authorization = newer
            response = yield _authorize(request, authorization)

    def async_auth_flow(self, request: httpx.Request) -> NoReturn:
        """Not supported: it would block the event loop.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError("SyncEngineAuth is for httpx.Client: give httpx.AsyncClient an EngineAuth")


async def _in_time(request: httpx.Request, ask: Callable[[], Awaitable[_T]]) -> _T:
    """Await the engine within the pool timeout of the request. A running refresh continues after the timeout."""
    seconds = request.extensions.get("timeout", {}).get("pool")
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await ask()
    except TimeoutError:
        if not limit.expired():
            raise
    raise httpx.PoolTimeout(
        f"no token came within {seconds:g} seconds (the pool timeout of this client); a refresh goes on: try again",
        request=request,
    )


def _authorize(request: httpx.Request, authorization: Authorization) -> httpx.Request:
    request.headers.pop(_ACCOUNT_HEADER, None)
    request.headers.update(authorization.headers())
    return request


def _is_refusal(response: httpx.Response, url: httpx.URL, refused: Authorization) -> bool:
    """Return whether this is a 401 for our token. A redirect to another origin, or from there, is sent without it."""
    sent = response.request
    return (
        response.status_code == 401
        and origin_of(sent.url) == origin_of(url)
        and sent.headers.get("authorization") == refused.headers()["Authorization"]
    )
