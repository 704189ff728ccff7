"""What a request with `EngineAuth` raises leads to no token, and neither does what the engine or the issuer raise."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import anyio.from_thread
import httpx
import pytest
from support.http_libraries import PortalEngine, each_library, mocked, mocked_sync
from support.leaks import CANARY, assert_clean, assert_hidden
from support.network_servers import FixedAnswer, serving

from authstate.adapters.http_clients.token_provider import token_provider
from authstate.adapters.httpx_auth import EngineAuth, SyncEngineAuth
from authstate.adapters.oauth.issuer_http import IssuerHttp
from authstate.adapters.oauth.token_endpoint import HttpTokenAuthority
from authstate.engine.engine import AuthEngine
from authstate.engine.model.credentials import ApiKey, ChatgptTokens, ExternalTokens
from authstate.engine.model.errors import IssuerUnavailable, RefreshDeadReason
from authstate.engine.model.refresh_settings import RefreshSettings
from authstate.engine.model.secret import Secret
from authstate.engine.model.session import Authorization
from authstate.engine.ports import PartialRefresh
from authstate.testing import FakeAuthority, FakeParent, MemoryStore, make_jwt

URL = "https://backend.example/x"
JWT = make_jwt(chatgpt_account_id="org-1", email="person@example.com", exp=9e9) + CANARY
TOKENS = ChatgptTokens.read(id_token=JWT, access_token=JWT, refresh_token=f"rt-{CANARY}", account_id="org-1")
SETTINGS = RefreshSettings(total=0.0, rechecks=())


def refuse(library: Any) -> Any:
    return lambda request: library.Response(401)


class Slow:
    """An engine that has a token, and no newer one in time."""

    def fresh_authorization(self) -> Authorization | None:
        return None

    async def authorization(self) -> Authorization:
        return Authorization(Secret(CANARY), "org-1", 0)

    async def recover(self, refused: Authorization) -> Authorization:
        await asyncio.Event().wait()
        raise AssertionError


async def managed(prepare: Callable[[FakeAuthority], None]) -> AuthEngine:
    authority = FakeAuthority(TOKENS)
    prepare(authority)
    engine = AuthEngine(MemoryStore(TOKENS), authority, settings=SETTINGS)
    await engine.start()
    return engine


async def signed_out() -> AuthEngine:
    return AuthEngine(MemoryStore(), FakeAuthority())


async def with_a_parent() -> AuthEngine:
    parent = FakeParent()
    engine = AuthEngine(MemoryStore(), FakeAuthority(), parent=parent)
    await engine.start()
    await engine.use_external_tokens(ExternalTokens.read(access_token=JWT, account_id="org-1"))
    parent.will_answer(ValueError(f"a bug with {CANARY}"))
    return engine


async def with_a_bad_key() -> AuthEngine:
    engine = AuthEngine(MemoryStore(ApiKey(Secret(f"{CANARY}\n"))), FakeAuthority())
    await engine.start()
    return engine


ENGINES: dict[str, Callable[[], Awaitable[AuthEngine]]] = {
    "the refresh token is dead": lambda: managed(lambda issuer: issuer.kill(RefreshDeadReason.REVOKED)),
    "the issuer is away": lambda: managed(lambda issuer: issuer.fail_next(IssuerUnavailable("503"), 3)),
    "nobody is signed in": signed_out,
    "the parent fails": with_a_parent,
    "a key that fits in no header": with_a_bad_key,
}


@each_library
@pytest.mark.parametrize("name", ENGINES)
async def test_what_a_request_raises(name: str, library: Any) -> None:
    engine = await ENGINES[name]()
    async with mocked(library, refuse(library), EngineAuth(engine)) as client:
        with pytest.raises(Exception) as raised:
            await client.get(URL)
    assert_clean(raised.value, may_name_the_request=True)
    await engine.close(0)


@each_library
@pytest.mark.parametrize("name", ENGINES)
def test_what_a_request_of_a_thread_raises(name: str, library: Any) -> None:
    with anyio.from_thread.start_blocking_portal() as portal:
        engine = portal.call(ENGINES[name])
        auth = SyncEngineAuth(PortalEngine(engine, portal))
        with mocked_sync(library, refuse(library), auth) as client, pytest.raises(Exception) as raised:
            client.get(URL)
        portal.call(engine.close, 0)
    assert_clean(raised.value, may_name_the_request=True)


@each_library
async def test_a_token_that_does_not_come_in_time(library: Any) -> None:
    timeout = library.Timeout(5, pool=0.01)
    async with mocked(library, refuse(library), EngineAuth(Slow()), timeout=timeout) as client:
        with pytest.raises(library.PoolTimeout) as raised:
            await client.get(URL)
    assert_clean(raised.value, may_name_the_request=True)


@each_library
async def test_a_request_that_is_lost(library: Any) -> None:
    def lose(request: Any) -> NoReturn:
        raise library.ReadTimeout("late", request=request)

    engine = await managed(lambda issuer: None)
    async with mocked(library, lose, EngineAuth(engine)) as client:
        with pytest.raises(library.ReadTimeout) as raised:
            await client.get(URL)
    assert_clean(raised.value, may_name_the_request=True)
    await engine.close(0)


async def test_what_authorizes_shows_nothing() -> None:
    engine = await managed(lambda issuer: None)
    assert_hidden(EngineAuth(engine))
    assert_hidden(token_provider(engine))
    await engine.close(0)


@each_library
async def test_the_debug_logs_of_the_client(library: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Of httpx, httpcore and authstate: they name the request and the headers of the answer, and no header sent."""
    caplog.set_level(logging.DEBUG)
    engine = await managed(lambda issuer: None)
    async with serving(FixedAnswer()) as port, library.AsyncClient(auth=EngineAuth(engine)) as client:
        assert (await client.get(f"http://127.0.0.1:{port}/x")).status_code == 200
    await engine.close(0)
    assert "send_request_headers" in caplog.text and CANARY not in caplog.text


def broken(request: httpx.Request) -> httpx.Response:
    body = request.content  # as a transport has it in its frames
    raise RuntimeError(f"a bug with {len(body)} bytes") from ValueError(body)


@pytest.mark.parametrize("fault", [broken, lambda request: httpx.Response(200, json={"refresh_token": f"rt-{CANARY}"})])
async def test_a_fault_below_the_issuer(
    monkeypatch: pytest.MonkeyPatch, fault: Callable[[httpx.Request], httpx.Response]
) -> None:
    """A bug of a library has the request in its frames, and the answer has tokens."""
    real = httpx.AsyncClient
    monkeypatch.setattr(httpx, "AsyncClient", lambda **kw: real(transport=httpx.MockTransport(fault), **kw))
    authority = HttpTokenAuthority("https://issuer.example", "client")
    with pytest.raises((IssuerUnavailable, PartialRefresh)) as raised:
        await authority.refresh(Secret(f"rt-{CANARY}-old"))
    assert_clean(raised.value)
    if fault is broken:
        assert "RuntimeError" in str(raised.value)
        with pytest.raises(IssuerUnavailable) as raised:
            await IssuerHttp().post(
                "https://issuer.example", "issuer.example", {"code": Secret(CANARY)}, 5.0, form=True
            )
        assert_clean(raised.value)
