"""What a request with `EngineAuth` raises leads to no token, and neither does what the engine or the issuer raise."""

import asyncio
from collections.abc import Awaitable, Callable

import anyio.from_thread
import httpx
import pytest
from support.leaks import CANARY, assert_clean

from authstate.adapters.httpx_auth import EngineAuth, SyncEngineAuth
from authstate.adapters.oauth.issuer_http import IssuerHttp
from authstate.adapters.oauth.token_endpoint import HttpTokenAuthority
from authstate.adapters.testing import FakeAuthority, FakeParent, MemoryStore, make_jwt
from authstate.engine.engine import AuthEngine
from authstate.engine.model.credentials import ApiKey, ChatgptTokens, ExternalTokens
from authstate.engine.model.errors import IssuerUnavailable, RefreshDeadReason
from authstate.engine.model.refresh_settings import RefreshSettings
from authstate.engine.model.secret import Secret
from authstate.engine.model.session import Authorization
from authstate.engine.ports import PartialRefresh

URL = "https://backend.example/x"
JWT = make_jwt(chatgpt_account_id="org-1", email="person@example.com", exp=9e9) + CANARY
TOKENS = ChatgptTokens.read(id_token=JWT, access_token=JWT, refresh_token=f"rt-{CANARY}", account_id="org-1")
SETTINGS = RefreshSettings(total=0.0, rechecks=())


def refuse(request: httpx.Request) -> httpx.Response:
    return httpx.Response(401)


def lose(request: httpx.Request) -> httpx.Response:
    raise httpx.ReadTimeout("late", request=request)


class Slow:
    """An engine that has a token, and no newer one in time."""

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


@pytest.mark.parametrize("name", ENGINES)
async def test_what_a_request_raises(name: str) -> None:
    engine = await ENGINES[name]()
    async with httpx.AsyncClient(auth=EngineAuth(engine), transport=httpx.MockTransport(refuse)) as client:
        with pytest.raises(Exception) as raised:
            await client.get(URL)
    assert_clean(raised.value, may_name_the_request=True)
    await engine.close(0)


@pytest.mark.parametrize("name", ENGINES)
def test_what_a_request_of_a_thread_raises(name: str) -> None:
    with anyio.from_thread.start_blocking_portal() as portal:
        engine = portal.call(ENGINES[name])
        auth = SyncEngineAuth(engine, portal)
        client = httpx.Client(auth=auth, transport=httpx.MockTransport(refuse))
        with client, pytest.raises(Exception) as raised:
            client.get(URL)
        portal.call(engine.close, 0)
    assert_clean(raised.value, may_name_the_request=True)


async def test_a_token_that_does_not_come_in_time() -> None:
    timeout = httpx.Timeout(5, pool=0.01)
    transport = httpx.MockTransport(refuse)
    async with httpx.AsyncClient(auth=EngineAuth(Slow()), transport=transport, timeout=timeout) as client:
        with pytest.raises(httpx.PoolTimeout) as raised:
            await client.get(URL)
    assert_clean(raised.value, may_name_the_request=True)


async def test_a_request_that_is_lost() -> None:
    engine = await managed(lambda issuer: None)
    async with httpx.AsyncClient(auth=EngineAuth(engine), transport=httpx.MockTransport(lose)) as client:
        with pytest.raises(httpx.ReadTimeout) as raised:
            await client.get(URL)
    assert_clean(raised.value, may_name_the_request=True)
    await engine.close(0)


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
