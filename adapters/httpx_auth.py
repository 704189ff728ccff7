"""Authorizes the requests of httpx and httpx2: adds the headers, and after a 401 recovers and sends the request again.

    async with httpx.AsyncClient(auth=EngineAuth(engine)) as client:
        response = await client.get(url)

    with httpx.Client(auth=SyncEngineAuth(sync_engine)) as client:
        response = client.get(url)

`httpx2.AsyncClient` and `httpx2.Client` take the same objects. Each library accepts only subclasses of its own `Auth`,
so the classes here are subclasses of both if httpx2 is installed.

This module imports httpx, and httpx2 if it is installed. Import it shortly before the first request.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import httpx

from authstate.adapters.http_clients.attempts import RECOVERIES, Origins, authorize, is_refusal
from authstate.adapters.http_clients.authorizer import (
    Authorizer,
    SyncAuthorizer,
    ensure_async,
    ensure_may_wait,
    ensure_sync,
)
from authstate.adapters.http_clients.bounded_wait import WaitEnded, call_within
from authstate.adapters.network.request_origin import bind_to_origin, bind_to_origin_sync
from authstate.engine.model.errors import NotSignedIn, RecoveryExhausted
from authstate.engine.model.session import Authorization

if TYPE_CHECKING:
    from httpx2 import Auth as Httpx2Auth
else:
    try:
        from httpx2 import Auth as Httpx2Auth
    except ImportError:
        Httpx2Auth = object
    if Httpx2Auth is httpx.Auth:  # after `httpx2.alias_httpx()` the two are one
        Httpx2Auth = object

__all__ = ["Authorizer", "EngineAuth", "SyncAuthorizer", "SyncEngineAuth"]

_T = TypeVar("_T")


class _AuthOfBothLibraries(httpx.Auth, Httpx2Auth):
    """Is accepted as `auth=` by the clients of httpx and of httpx2. Its flows get requests of either."""

    if TYPE_CHECKING:

        def auth_flow(self, request: Any) -> Generator[Any, Any, None]: ...

        def sync_auth_flow(self, request: Any) -> Generator[Any, Any, None]: ...

        def async_auth_flow(self, request: Any) -> AsyncGenerator[Any, Any]: ...


class EngineAuth(_AuthOfBothLibraries):
    """Authorizes the requests of an `httpx.AsyncClient` or `httpx2.AsyncClient` with an engine.

    A request that gets a 401 is sent again with a newer token, at most twice. A parent is asked once. The body is read
    into memory first, so that it can be sent again. Clients and tasks of one event loop can share an instance.

    The caller gets the response with the 401 if the mode has no recovery (an API key), or if another account has signed
    in meanwhile. A request raises:

    - `InsecureTransport`: it is an `http://` URL of another machine. Nothing was sent.
    - `NotSignedIn`: nobody is signed in. Nothing was sent.
    - `PermanentRefreshError`: there is no newer token; sign in again.
    - `TransientAuthError`: there is no newer token now; try again later (`ParentUnavailable` for a parent).
    - `PoolTimeout` of the client's library: the engine took longer than the pool timeout of the request (5 seconds by
      default). A running refresh continues and serves the next request.

    Args:
        engine: the engine.
        origins: URLs whose origins (scheme, host, port) get the token. Requests to other origins are sent without it.
            By default, every request gets it. A redirect to another origin (https on the same host is one) never
            carries the token or the account id, and its 401 is returned to the caller: see `network/request_origin.py`.

    Raises:
        InsecureTransport: an origin is an `http://` URL of another machine; see `insecure_http.ensure_secure`.
        TypeError: the engine is not one, or one of `SyncEngineAuth`; or `origins` is one text instead of several.
    """

    def __init__(self, engine: Authorizer, origins: Iterable[str] | None = None) -> None:
        ensure_async(engine, "EngineAuth")
        self._engine = engine
        self._origins = Origins(origins)

    async def async_auth_flow(self, request: Any) -> AsyncGenerator[Any, Any]:
        """Called by the client. Cancelling the request does not cancel a refresh that others wait for."""
        url = request.url
        if not self._origins.include(url):
            yield request
            return
        await request.aread()
        bind_to_origin(request)
        authorization = self._engine.fresh_authorization()
        if authorization is None:
            authorization = await _in_time(request, self._engine.authorization)
        response = yield authorize(request, authorization)
        recoveries = 0
        while response.status_code == 401 and recoveries < RECOVERIES and is_refusal(response, url, authorization):
            newer = await self._recovered(request, authorization)
            if newer is None:
                return
            authorization = newer
            response = yield authorize(request, authorization)
            recoveries += 1

    async def _recovered(self, request: Any, refused: Authorization) -> Authorization | None:
        """Return the token for the next attempt. None if the caller gets the response with the 401."""
        try:
            newer = await _in_time(request, lambda: self._engine.recover(refused))
        except (NotSignedIn, RecoveryExhausted):
            return None
        return newer if newer.is_same_account_as(refused) else None

    def sync_auth_flow(self, request: Any) -> NoReturn:
        """Not supported: the engine runs in an event loop.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError("EngineAuth is for asynchronous clients: give a synchronous one a SyncEngineAuth")


class SyncEngineAuth(_AuthOfBothLibraries):
    """Authorizes the requests of an `httpx.Client` or `httpx2.Client` with an engine that any thread may use.

    It behaves like `EngineAuth` and raises the same errors. Clients and threads can share an instance: each waits by
    itself, and many concurrent 401s cost one refresh. A request that has to wait for a token raises `WrongEventLoop` in
    a thread where that wait would never end, such as that of the engine.

    Args:
        engine: the engine, a `SyncAuthEngine`.
        origins: see `EngineAuth`.

    Raises:
        InsecureTransport: an origin is an `http://` URL of another machine; see `insecure_http.ensure_secure`.
        TypeError: the engine is not one, or one of `EngineAuth`; or `origins` is one text instead of several.
    """

    def __init__(self, engine: SyncAuthorizer, origins: Iterable[str] | None = None) -> None:
        ensure_sync(engine, "SyncEngineAuth")
        self._engine = engine
        self._origins = Origins(origins)

    def sync_auth_flow(self, request: Any) -> Generator[Any, Any, None]:
        """Called by the client. Interrupting the waiting thread does not cancel a refresh."""
        url = request.url
        if not self._origins.include(url):
            yield request
            return
        request.read()
        bind_to_origin_sync(request)
        authorization = self._engine.fresh_authorization()
        if authorization is None:
            authorization = self._in_time(request, self._engine.authorization)
        response = yield authorize(request, authorization)
        recoveries = 0
        while response.status_code == 401 and recoveries < RECOVERIES and is_refusal(response, url, authorization):
            newer = self._recovered(request, authorization)
            if newer is None:
                return
            authorization = newer
            response = yield authorize(request, authorization)
            recoveries += 1

    def _recovered(self, request: Any, refused: Authorization) -> Authorization | None:
        """Return the token for the next attempt. None if the caller gets the response with the 401."""
        try:
            newer = self._in_time(request, lambda: self._engine.recover(refused))
        except (NotSignedIn, RecoveryExhausted):
            return None
        return newer if newer.is_same_account_as(refused) else None

    def _in_time(self, request: Any, ask: Callable[[], _T]) -> _T:
        """Ask the engine within the pool timeout of the request. A running refresh continues after the timeout."""
        ensure_may_wait(self._engine)  # here, because the engine may be asked in another thread
        try:
            return call_within(_pool_timeout_of(request), ask)
        except WaitEnded:
            pass
        raise _pool_timeout(request)

    def async_auth_flow(self, request: Any) -> NoReturn:
        """Not supported: it would block the event loop.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError("SyncEngineAuth is for synchronous clients: give an asynchronous one an EngineAuth")


async def _in_time(request: Any, ask: Callable[[], Awaitable[_T]]) -> _T:
    """Await the engine within the pool timeout of the request. A running refresh continues after the timeout."""
    seconds = _pool_timeout_of(request)
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await ask()
    except TimeoutError:
        if not limit.expired():
            raise
    raise _pool_timeout(request)


def _pool_timeout_of(request: Any) -> float | None:
    seconds: float | None = request.extensions.get("timeout", {}).get("pool")
    return seconds


def _pool_timeout(request: Any) -> Exception:
    """Return the `PoolTimeout` of the library that the request belongs to."""
    said = (
        f"no token came within {_pool_timeout_of(request):g} seconds (the pool timeout of this client); "
        "a refresh goes on: try again"
    )
    if isinstance(request, httpx.Request):
        return httpx.PoolTimeout(said, request=request)
    import httpx2

    return httpx2.PoolTimeout(said, request=request)
