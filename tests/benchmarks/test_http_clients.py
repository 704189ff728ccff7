"""What `EngineAuth` adds to a request, compared with a static header: both libraries, both kinds of client."""

import asyncio
from collections.abc import Callable
from time import thread_time
from typing import Any

from benchmarks.side_by_side import TRIES, record
from support.http_libraries import each_library

from authstate.adapters.httpx_auth import EngineAuth, SyncEngineAuth
from authstate.engine.engine import AuthEngine
from authstate.engine.model.session import Authorization
from authstate.testing import FakeAuthority, MemoryStore, make_tokens

URL = "https://backend.example/api"
REQUESTS = 100
"""In one go, before the other client has its turn: other work on this machine then slows both."""
ROUNDS = 60
MOST_MICROSECONDS = 6.0


class FreshEngine:
    """A synchronous engine whose token is fresh."""

    def __init__(self, engine: AuthEngine) -> None:
        self.fresh_authorization = engine.fresh_authorization

    def authorization(self) -> Authorization:
        raise AssertionError("the token is fresh")

    def recover(self, refused: Authorization) -> Authorization:
        raise AssertionError("nothing is refused")


def assert_cheap(title: str, static: Callable[[], Any], authorized: Callable[[], Any]) -> None:
    """Check the claim in the best of some tries. In each, it is about the median of rounds side by side."""
    differences = []
    for _ in range(TRIES):
        rounds = [(seconds_of(static), seconds_of(authorized)) for _ in range(ROUNDS)]
        plain, ours = (sorted(times)[ROUNDS // 2] * 1e6 for times in zip(*rounds, strict=True))
        difference = sorted(slow - fast for fast, slow in rounds)[ROUNDS // 2] * 1e6
        record(title, {"static header, us": plain, "authstate, us": ours, "difference, us": difference})
        differences.append(difference)
        if difference <= MOST_MICROSECONDS:
            return
    raise AssertionError(f"{title}: {min(differences):.1f} us more than with a static header")


def seconds_of(run: Callable[[], Any]) -> float:
    began = thread_time()
    run()
    return (thread_time() - began) / REQUESTS


def bearer_of(engine: AuthEngine) -> dict[str, str]:
    return {"Authorization": Authorization.of(engine.session).headers()["Authorization"]}


async def started_engine() -> AuthEngine:
    engine = AuthEngine(MemoryStore(make_tokens()), FakeAuthority())
    await engine.start()
    return engine


@each_library
def test_an_async_request_costs_little_more_than_with_a_static_header(library: Any) -> None:
    transport = library.MockTransport(lambda request: library.Response(200))
    with asyncio.Runner() as runner:
        engine = runner.run(started_engine())

        async def send(client: Any) -> None:
            for _ in range(REQUESTS):
                await client.get(URL)

        static = library.AsyncClient(transport=transport, headers=bearer_of(engine))
        authorized = library.AsyncClient(transport=transport, auth=EngineAuth(engine))
        runs = (lambda: runner.run(send(static)), lambda: runner.run(send(authorized)))
        assert_cheap(f"a request of {library.__name__}, async", *runs)


@each_library
def test_a_sync_request_costs_little_more_than_with_a_static_header(library: Any) -> None:
    transport = library.MockTransport(lambda request: library.Response(200))
    engine = asyncio.run(started_engine())

    def send(client: Any) -> None:
        for _ in range(REQUESTS):
            client.get(URL)

    static = library.Client(transport=transport, headers=bearer_of(engine))
    authorized = library.Client(transport=transport, auth=SyncEngineAuth(FreshEngine(engine)))
    assert_cheap(f"a request of {library.__name__}, sync", lambda: send(static), lambda: send(authorized))
