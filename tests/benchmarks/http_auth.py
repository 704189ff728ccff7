"""What the httpx adapters add to a request, beside the same client with a static header. No network is involved."""

import asyncio
from collections.abc import Callable
from importlib import import_module
from typing import Any

from benchmarks.comparison import Comparison, PeerMissing, compare, microseconds_of, repeated, with_difference

from authstate import AuthEngine, EngineAuth, MemoryStore, SyncAuthEngine, SyncEngineAuth
from authstate.testing import FakeAuthority, make_tokens

_LIBRARIES = ("httpx", "httpx2")
NAMES = tuple(f"a request of {library}, {kind}" for library in _LIBRARIES for kind in ("async", "sync"))
_URL = "https://api.example/v1/responses"
_CALLS = 100
_BOTH_HEADERS = "two static headers"
"""What a ChatGPT login sends: a client takes longer for each header, whoever sets it."""


def measure(rounds: int) -> list[Comparison]:
    """Compare requests of both libraries, async and sync."""
    found = []
    for library in _LIBRARIES:
        with asyncio.Runner() as runner:
            engine = AuthEngine(MemoryStore(make_tokens()), FakeAuthority())
            runner.run(engine.start())
            asynchronous: dict[str, Callable[[], Callable[[], float]]] = {
                "authstate": lambda library=library, engine=engine, runner=runner: _async(  # type: ignore[misc]
                    runner, library, auth=_async_auth(library, engine)
                ),
                "a static header": lambda library=library, runner=runner: _async(  # type: ignore[misc]
                    runner, library, headers=_header()
                ),
                _BOTH_HEADERS: lambda library=library, runner=runner: _async(  # type: ignore[misc]
                    runner, library, headers=_both_headers()
                ),
            }
            synchronous: dict[str, Callable[[], Callable[[], float]]] = {
                "authstate": lambda library=library: _sync(library, auth=_sync_auth(library)),  # type: ignore[misc]
                "a static header": lambda library=library: _sync(library, headers=_header()),  # type: ignore[misc]
                _BOTH_HEADERS: lambda library=library: _sync(library, headers=_both_headers()),  # type: ignore[misc]
            }
            for kind, contenders in (("async", asynchronous), ("sync", synchronous)):
                compared = compare(f"a request of {library}, {kind}", "us", contenders, rounds)
                found.append(with_difference(compared, "a static header"))
            runner.run(engine.close())
    return found


def _header() -> dict[str, str]:
    return {"Authorization": f"Bearer {make_tokens().access_token.reveal()}"}


def _both_headers() -> dict[str, str]:
    return {**_header(), "chatgpt-account-id": "org-1"}


def _async_auth(library: str, engine: AuthEngine) -> Any:
    auth = EngineAuth(engine)
    if not isinstance(auth, import_module(library).Auth):
        raise PeerMissing(f"EngineAuth is not for {library}")
    return auth


def _sync_auth(library: str) -> Any:
    engine = SyncAuthEngine(AuthEngine(MemoryStore(make_tokens()), FakeAuthority()))
    engine.start()
    auth = SyncEngineAuth(engine)
    if not isinstance(auth, import_module(library).Auth):
        raise PeerMissing(f"SyncEngineAuth is not for {library}")
    return auth


def _transport(module: Any) -> Any:
    return module.MockTransport(lambda request: module.Response(200))


def _async(runner: asyncio.Runner, library: str, **options: Any) -> Callable[[], float]:
    module = import_module(library)
    client = module.AsyncClient(transport=_transport(module), **options)

    async def send(calls: int) -> None:
        for _ in range(calls):
            await client.get(_URL)

    return microseconds_of(lambda calls: runner.run(send(calls)), _CALLS)


def _sync(library: str, **options: Any) -> Callable[[], float]:
    module = import_module(library)
    client = module.Client(transport=_transport(module), **options)
    return microseconds_of(repeated(lambda: client.get(_URL)), _CALLS)
