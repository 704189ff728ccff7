"""Authorized requests from code without an event loop: the engine lives in another thread's."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from support.http_libraries import LIBRARIES, PortalEngine

from authstate.adapters.httpx_auth import EngineAuth, SyncEngineAuth
from authstate.engine.engine import AuthEngine
from authstate.engine.model.credentials import ApiKey, Credentials
from authstate.engine.model.errors import Delivery, EngineClosed, IssuerUnavailable, NotSignedIn, PermanentRefreshError
from authstate.engine.model.states import AuthState
from authstate.testing import FakeAuthority, MemoryStore, make_tokens

URL = "https://backend.example/api"


class Backend:
    """Accepts the tokens that it was not told to refuse, and remembers what was sent."""

    def __init__(self, library: Any, redirect: str | None = None) -> None:
        self.library = library
        self.refused: set[str] = set()
        self.refuses_all = False
        self.redirect = redirect
        self.seen: list[str | None] = []
        self.bodies: list[bytes] = []

    def __call__(self, request: Any) -> Any:
        token = request.headers.get("authorization")
        self.seen.append(token)
        self.bodies.append(b"".join(request.stream))
        if self.redirect and request.url.host == "backend.example":
            return self.library.Response(307, headers={"location": self.redirect})
        return self.library.Response(401 if self.refuses_all or token is None or token in self.refused else 200)


class Threads:
    """An engine in the event loop of a thread, and a synchronous client that it authorizes."""

    def __init__(self, stored: Credentials | None, backend: Backend, portal: BlockingPortal) -> None:
        self.backend = backend
        self.authority = FakeAuthority(*([stored] if isinstance(stored, type(make_tokens())) else []))
        self.store = MemoryStore(stored)
        self.engine = AuthEngine(self.store, self.authority)
        self.auth = SyncEngineAuth(PortalEngine(self.engine, portal))
        self.portal = portal

    def client(self, auth: Any = None, **options: Any) -> Any:
        library = self.backend.library
        return library.Client(transport=library.MockTransport(self.backend), auth=auth or self.auth, **options)

    def refuse_the_current_token(self) -> None:
        self.backend.refused.add(self.portal.call(self.engine.authorization).headers()["Authorization"])


@pytest.fixture
def portal() -> Iterator[BlockingPortal]:
    with start_blocking_portal() as started:
        yield started


@pytest.fixture(params=LIBRARIES, ids=lambda library: str(library.__name__))
def backend(request: pytest.FixtureRequest) -> Backend:
    """A backend for clients of httpx, and one for those of httpx2."""
    return Backend(request.param)


@pytest.fixture
def threads(portal: BlockingPortal, backend: Backend) -> Iterator[Threads]:
    made = Threads(make_tokens(), backend, portal)
    with portal.wrap_async_context_manager(made.engine):
        yield made


def test_the_header_goes_on(threads: Threads) -> None:
    with threads.client() as client:
        assert client.get(URL).status_code == 200
    assert threads.backend.seen == [threads.portal.call(threads.engine.authorization).headers()["Authorization"]]


def test_a_401_is_recovered_and_the_body_sent_again(threads: Threads) -> None:
    threads.refuse_the_current_token()
    with threads.client() as client:
        assert client.post(URL, content=iter([b"one", b"two"])).status_code == 200
    assert threads.backend.bodies == [b"onetwo"] * 2
    assert len(threads.authority.sent) == 1


def test_it_gives_up_after_two_recoveries(threads: Threads) -> None:
    threads.backend.refuses_all = True
    with threads.client() as client:
        assert client.get(URL).status_code == 401
    assert len(threads.backend.seen) == 3


def test_fifty_threads_that_meet_a_401_cost_one_refresh(threads: Threads) -> None:
    threads.refuse_the_current_token()
    together = threading.Barrier(50)

    def send(client: Any) -> int:
        together.wait(60)
        return int(client.get(URL).status_code)

    with threads.client(timeout=None) as client, ThreadPoolExecutor(50) as pool:
        assert list(pool.map(send, [client] * 50)) == [200] * 50
    assert len(threads.authority.sent) == 1


def test_the_reason_reaches_the_caller(threads: Threads) -> None:
    threads.authority.kill()
    threads.refuse_the_current_token()
    with threads.client() as client:
        for _ in range(2):
            with pytest.raises(PermanentRefreshError, match="Sign in again"):
                client.get(URL)
    assert len(threads.authority.sent) == 1


def test_what_may_pass_reaches_the_caller_and_the_next_request_works(threads: Threads) -> None:
    threads.authority.fail_next(IssuerUnavailable("overloaded", delivery=Delivery.REFUSED))
    threads.refuse_the_current_token()
    with threads.client() as client:
        for _ in range(2):  # in the pause without a new try
            with pytest.raises(IssuerUnavailable, match="overloaded"):
                client.get(URL)
        assert len(threads.authority.sent) == 1
        threads.portal.call(threads.engine.refresh)
        assert client.get(URL).status_code == 200


def test_nobody_signed_in(portal: BlockingPortal, backend: Backend) -> None:
    made = Threads(None, backend, portal)
    with portal.wrap_async_context_manager(made.engine), made.client() as client, pytest.raises(NotSignedIn):
        client.get(URL)
    assert made.backend.seen == []


def test_without_a_recovery_the_401_is_the_answer(portal: BlockingPortal, backend: Backend) -> None:
    made = Threads(ApiKey.parse("sk-1"), backend, portal)
    made.backend.refused.add("Bearer sk-1")
    with portal.wrap_async_context_manager(made.engine), made.client() as client:
        assert client.get(URL).status_code == 401
    assert made.backend.seen == ["Bearer sk-1"]


def test_other_origins_get_no_token(threads: Threads) -> None:
    with threads.client(SyncEngineAuth(PortalEngine(threads.engine, threads.portal), [URL])) as client:
        assert client.get("https://elsewhere.example/").status_code == 401
        assert client.get(URL).status_code == 200
    assert (threads.backend.seen[0], threads.authority.sent) == (None, [])


def test_the_401_of_another_origin_is_not_ours(threads: Threads) -> None:
    threads.backend.redirect = "https://elsewhere.example/"
    with threads.client(follow_redirects=True) as client:
        assert client.get(URL).status_code == 401
    assert threads.backend.seen[1:] == [None]
    assert threads.authority.sent == []


def test_the_end_waits_until_a_refresh_that_was_sent_is_stored(
    portal: BlockingPortal, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Threads(make_tokens(expires_in=-60), backend, portal)
    made.authority.hold()
    close = made.engine.close

    async def close_and_answer() -> None:
        asyncio.get_running_loop().call_soon(made.authority.release)
        await close()

    monkeypatch.setattr(made.engine, "close", close_and_answer)
    with made.client() as client, ThreadPoolExecutor(1) as pool:
        with portal.wrap_async_context_manager(made.engine):
            request = pool.submit(client.get, URL)
            portal.call(made.authority.asked)
        with pytest.raises(EngineClosed):
            request.result(30)
    assert made.store.saves == 1
    assert made.backend.seen == []


async def test_a_worker_thread_of_a_running_loop(backend: Backend) -> None:
    async with BlockingPortal() as portal:
        made = Threads(make_tokens(), backend, portal)
        async with made.engine:
            made.backend.refused.add((await made.engine.authorization()).headers()["Authorization"])
            with made.client() as client:
                answer = await asyncio.to_thread(client.get, URL)
                assert answer.status_code == 200
    assert made.engine.session.state is AuthState.CHATGPT


def test_each_client_gets_its_own_kind(threads: Threads) -> None:
    with threads.client(EngineAuth(threads.engine)) as client, pytest.raises(RuntimeError, match="SyncEngineAuth"):
        client.get(URL)

    async def get() -> None:
        async with threads.backend.library.AsyncClient(auth=threads.auth) as client:
            await client.get(URL)

    with pytest.raises(RuntimeError, match="an EngineAuth"):
        asyncio.run(get())
    assert threads.backend.seen == []
