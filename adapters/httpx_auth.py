"""Authorized requests with httpx: put the header on, and after a 401 recover and send the request again.

    async with httpx.AsyncClient(auth=EngineAuth(engine)) as client:
        response = await client.get(url)

and from code without an event loop, where anyio's portal is the way to the engine's loop:

    with start_blocking_portal() as portal, portal.wrap_async_context_manager(engine):
        with httpx.Client(auth=SyncEngineAuth(engine, portal)) as client:
            response = client.get(url)

This module imports httpx: import it when the first request is near.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable
from typing import TYPE_CHECKING, Final, NoReturn, Protocol, TypeVar

import httpx

from authstate.adapters.network.insecure_http import ensure_secure
from authstate.adapters.network.request_origin import bind_to_origin, bind_to_origin_sync, origin_of
from authstate.engine.model.authorization import Authorization
from authstate.engine.model.errors import NotSignedIn, RecoveryExhausted

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal

_T = TypeVar("_T")

_RECOVERIES: Final = 2
_ACCOUNT_HEADER: Final = "chatgpt-account-id"


class Authorizer(Protocol):
    """What is needed of an `AuthEngine`."""

    async def authorization(self) -> Authorization:
        """A token that is good to use."""
        ...

    async def recover(self, refused: Authorization) -> Authorization:
        """What to send the request again with after a 401."""
        ...


class _Authorized(httpx.Auth):
    """What the flows of both kinds of client share."""

    def __init__(self, engine: Authorizer, origins: Iterable[str] | None = None) -> None:
        self._engine = engine
        urls = None if origins is None else [httpx.URL(url) for url in origins]
        for url in urls or ():
            ensure_secure(str(url), "an origin of this EngineAuth")
        self._origins = None if urls is None else frozenset(map(origin_of, urls))

    def _is_meant_for(self, request: httpx.Request) -> bool:
        """Whether a request gets a token. Raises InsecureTransport."""
        if self._origins is not None and origin_of(request.url) not in self._origins:
            return False
        ensure_secure(str(request.url), f"a request to {request.url.host}")
        return True

    async def _authorized(self, request: httpx.Request) -> Authorization:
        return await _in_time(request, self._engine.authorization)

    async def _recovered(self, request: httpx.Request, refused: Authorization) -> Authorization | None:
        """What to send the request again with; None where the response with the 401 is the answer."""
        try:
            newer = await _in_time(request, lambda: self._engine.recover(refused))
        except (NotSignedIn, RecoveryExhausted):
            return None
        return newer if newer.is_same_account_as(refused) else None


class EngineAuth(_Authorized):
    """Authorizes the requests of an `httpx.AsyncClient` with an engine.

    A request that is refused with 401 is sent again with a newer token, at most twice. A parent is asked once. The body
    is read into memory first, so that it can be sent again. Any number of clients, requests and tasks of one event loop
    may share it.

    What a request raises: `InsecureTransport` for an `http://` URL of another machine; `NotSignedIn` before it is sent
    when nobody is signed in; `PermanentRefreshError` (sign in again) and `TransientAuthError` (try again later; a
    parent that did not answer is `ParentUnavailable`) when there is no newer token. `httpx.PoolTimeout` when a token
    takes longer than the pool timeout of the request (5 seconds by httpx's default), which bounds each wait for the
    engine; a refresh goes on, and serves the next request. Where the mode has no recovery, as with an API key, or
    another account signed in meanwhile, the response with the 401 is the answer.

    Args:
        engine: the engine.
        origins: URLs whose origins (scheme, host, port) get the token; requests to others are sent without it. By
            default every request of the client gets it. Either way, a redirect to another origin (https on the same
            host is one) takes neither the token nor the account id along, and a 401 from there is the answer: see
            `httpx_origin`.

    Raises:
        InsecureTransport: an origin is an `http://` URL of another machine; see `plain_http.ensure_secure`.
    """

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """The flow that httpx drives. Cancelling the request does not cancel a refresh that others wait for."""
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
        """Refused: the engine lives in an event loop.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError("EngineAuth is for httpx.AsyncClient: give httpx.Client a SyncEngineAuth")


class SyncEngineAuth(_Authorized):
    """Authorizes the requests of an `httpx.Client` with an engine that lives in the event loop of another thread.

    It does and raises what `EngineAuth` does. Any number of clients and threads may share it. Each waits by itself, and
    a thousand 401s still cost one refresh. Besides, a request raises RuntimeError in the thread of the engine's own
    event loop, and once the portal is stopped.

    Args:
        engine, origins: see `EngineAuth`.
        portal: the way to the event loop that the engine was started in.
    """

    def __init__(self, engine: Authorizer, portal: "BlockingPortal", origins: Iterable[str] | None = None) -> None:
        super().__init__(engine, origins)
        self._portal = portal

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """The flow that httpx drives. An interrupt of the waiting thread does not cancel a refresh."""
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
        """Refused: it would block the event loop.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError("SyncEngineAuth is for httpx.Client: give httpx.AsyncClient an EngineAuth")


async def _in_time(request: httpx.Request, ask: Callable[[], Awaitable[_T]]) -> _T:
    """What the engine answers, within the pool timeout of the request. A refresh goes on when that is over."""
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
    """Whether this is a 401 for our token: a redirect to another origin, or from there, comes without it."""
    sent = response.request
    return (
        response.status_code == 401
        and origin_of(sent.url) == origin_of(url)
        and sent.headers.get("authorization") == refused.headers()["Authorization"]
    )
