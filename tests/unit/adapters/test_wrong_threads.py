"""Every synchronous face says at once that a wait could never end, because the thread runs the loop of the engine.

The issuer never answers here: a wait that begins never ends.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal
from support.http_libraries import PortalEngine, each_library, mocked_sync

from authstate import (
    AuthEngine,
    Authorization,
    Policy,
    SyncAuthEngine,
    SyncEngineAuth,
    WrongEventLoop,
    sync_token_provider,
)
from authstate.testing import FakeAuthority, MemoryStore, make_tokens

URL = "https://backend.example/api"


def silent_engine(expires_in: float) -> AuthEngine:
    """Return an engine whose refresh waits for ever."""
    tokens = make_tokens(expires_in=expires_in)
    authority = FakeAuthority(tokens)
    authority.hold()
    return AuthEngine(MemoryStore(tokens), authority)


async def closed_at_once(engine: AuthEngine) -> None:
    await engine.close(grace=0)


@pytest.fixture
async def expired() -> AsyncIterator[AuthEngine]:
    """An engine in the loop of the test, with a token that has expired."""
    engine = silent_engine(-60)
    await engine.start()
    yield engine
    await closed_at_once(engine)


@pytest.fixture
def sync_engine(request: pytest.FixtureRequest) -> Iterator[SyncAuthEngine]:
    """A synchronous engine with a token that has expired, or lasts so many seconds."""
    engine = SyncAuthEngine(silent_engine(getattr(request, "param", -60)))
    engine.start()
    yield engine
    engine.close(grace=0)


def said_in_the_thread_of(engine: SyncAuthEngine, use: Callable[[], object]) -> BaseException | None:
    """Call something in the event loop of an engine, and return what it raised."""

    async def there(_: AuthEngine) -> BaseException | None:
        try:
            use()
        except BaseException as error:
            return error
        return None

    return engine.call(there)


class OwnEngine:
    """A `SyncAuthorizer` that some program wrote: it waits for a loop, in whatever thread it is called."""

    def __init__(self, engine: AuthEngine, loop: asyncio.AbstractEventLoop) -> None:
        self.engine = engine
        self.loop = loop

    def fresh_authorization(self) -> Authorization | None:
        return self.engine.fresh_authorization()

    def authorization(self) -> Authorization:
        return asyncio.run_coroutine_threadsafe(self.engine.authorization(), self.loop).result()

    def recover(self, refused: Authorization) -> Authorization:
        return asyncio.run_coroutine_threadsafe(self.engine.recover(refused), self.loop).result()


@pytest.mark.parametrize("timeout", [5.0, None])
@each_library
async def test_a_request_in_the_loop_of_a_running_engine(library: Any, expired: AuthEngine, timeout: Any) -> None:
    own = OwnEngine(expired, asyncio.get_running_loop())
    async with BlockingPortal() as portal:
        for engine in (own, PortalEngine(expired, portal)):
            client = mocked_sync(library, unanswered, SyncEngineAuth(engine), timeout=timeout)
            with client, pytest.raises(WrongEventLoop, match=r"asyncio\.to_thread"):
                client.get(URL)


async def test_a_provider_in_the_loop_of_a_running_engine(expired: AuthEngine) -> None:
    provide = sync_token_provider(OwnEngine(expired, asyncio.get_running_loop()))
    with pytest.raises(WrongEventLoop, match=r"asyncio\.to_thread"):
        provide()


@each_library
async def test_a_refused_token_in_the_loop_of_a_running_engine(library: Any) -> None:
    engine = silent_engine(3600)
    await engine.start()
    auth = SyncEngineAuth(OwnEngine(engine, asyncio.get_running_loop()))
    with mocked_sync(library, lambda request: library.Response(401), auth) as client, pytest.raises(WrongEventLoop):
        client.get(URL)
    await closed_at_once(engine)


@pytest.mark.parametrize("timeout", [5.0, None])
@each_library
def test_a_request_in_the_thread_of_a_sync_engine(library: Any, sync_engine: SyncAuthEngine, timeout: Any) -> None:
    with mocked_sync(library, unanswered, SyncEngineAuth(sync_engine), timeout=timeout) as client:
        said = said_in_the_thread_of(sync_engine, lambda: client.get(URL))
    assert isinstance(said, WrongEventLoop), said


@pytest.mark.parametrize("sync_engine", [3600], indirect=True)
@each_library
def test_a_refused_token_in_the_thread_of_a_sync_engine(library: Any, sync_engine: SyncAuthEngine) -> None:
    with mocked_sync(library, lambda request: library.Response(401), SyncEngineAuth(sync_engine)) as client:
        said = said_in_the_thread_of(sync_engine, lambda: client.get(URL))
    assert isinstance(said, WrongEventLoop), said


def test_a_provider_in_the_thread_of_a_sync_engine(sync_engine: SyncAuthEngine) -> None:
    said = said_in_the_thread_of(sync_engine, sync_token_provider(sync_engine))
    assert isinstance(said, WrongEventLoop), said


WAITS: dict[str, Callable[[SyncAuthEngine], object]] = {
    "start": lambda engine: engine.start(),
    "close": lambda engine: engine.close(),
    "with": lambda engine: engine.__enter__(),
    "background": lambda engine: engine.background().__enter__(),
    "authorization": lambda engine: engine.authorization(),
    "recover": lambda engine: engine.recover(Authorization.of(engine.session)),
    "refresh": lambda engine: engine.refresh(),
    "check": lambda engine: engine.check(),
    "reload": lambda engine: engine.reload(),
    "restore": lambda engine: engine.restore(),
    "follow": lambda engine: engine.follow(),
    "use_api_key": lambda engine: engine.use_api_key("sk-1"),
    "complete_chatgpt_login": lambda engine: engine.complete_chatgpt_login(make_tokens()),
    "cancel_login": lambda engine: engine.cancel_login("1"),
    "log_out": lambda engine: engine.log_out(),
    "set_policy": lambda engine: engine.set_policy(Policy()),
    "parent": lambda engine: setattr(engine, "parent", None),
    "call": lambda engine: engine.call(closed_at_once),
    "ensure_may_wait": lambda engine: engine.ensure_may_wait(),
}


@pytest.mark.parametrize("name", WAITS)
def test_a_method_in_the_thread_of_a_sync_engine(name: str, sync_engine: SyncAuthEngine) -> None:
    said = said_in_the_thread_of(sync_engine, lambda: WAITS[name](sync_engine))
    assert isinstance(said, WrongEventLoop), said


@each_library
async def test_a_sync_engine_serves_a_thread_with_another_loop(library: Any) -> None:
    """As in a notebook, whose cells run in an event loop."""
    tokens = make_tokens()
    refused = f"Bearer {tokens.access_token.reveal()}"

    def answer(request: Any) -> Any:
        return library.Response(401 if request.headers["Authorization"] == refused else 200)

    with SyncAuthEngine(AuthEngine(MemoryStore(tokens), FakeAuthority(tokens))) as engine:
        engine.ensure_may_wait()
        with mocked_sync(library, answer, SyncEngineAuth(engine)) as client:
            assert client.get(URL).status_code == 200
        assert sync_token_provider(engine)() != tokens.access_token.reveal()


def unanswered(request: Any) -> Any:
    raise AssertionError("nothing is sent")
