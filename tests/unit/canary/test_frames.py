"""No error that leaves the engine or an adapter leads to a secret: not by a frame's locals, nor by its context."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from support.leaks import CANARY, assert_clean

from authstate.adapters.app_server.rate_limits import RateLimitsUnavailable, read_rate_limits
from authstate.adapters.oauth.code_exchange import exchange_code
from authstate.adapters.oauth.device_endpoint import DeviceApproval, DeviceCode, HttpDeviceEndpoint
from authstate.adapters.oauth.issuer import Issuer
from authstate.adapters.oauth.token_endpoint import HttpTokenAuthority
from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.adapters.sync_engine import SyncAuthEngine
from authstate.engine.engine import AuthEngine
from authstate.engine.machines.refresh_claim import fingerprint_of
from authstate.engine.model.account import Account
from authstate.engine.model.credentials import ApiKey, ChatgptTokens, ExternalTokens
from authstate.engine.model.errors import (
    AuthError,
    InvalidCredentials,
    IssuerUnavailable,
    PermanentRefreshError,
    StoreUnreadable,
)
from authstate.engine.model.events import Event, RefreshFailed
from authstate.engine.model.refresh_settings import RefreshSettings
from authstate.engine.model.secret import Secret
from authstate.engine.model.session import Authorization
from authstate.engine.ports import HeldStore
from authstate.testing import FakeAuthority, FakeParent, ManualClock, MemoryStore, make_jwt, make_tokens

ISSUER = Issuer("https://issuer.example")
FAILURES: dict[str, Callable[[httpx.Request], httpx.Response]] = {
    "no connection": lambda request: _raise(httpx.ConnectError("refused", request=request)),
    "no answer": lambda request: _raise(httpx.ReadTimeout("late", request=request)),
    "half an answer": lambda request: _raise(httpx.RemoteProtocolError("cut off", request=request)),
    "overloaded": lambda request: httpx.Response(503, json={"refresh_token": f"rt-{CANARY}"}),
    "refused": lambda request: httpx.Response(400, json={"error": "invalid_grant", "id_token": CANARY}),
    "unauthorized": lambda request: httpx.Response(401, json={"error": {"code": "refresh_token_expired"}}),
    "malformed": lambda request: httpx.Response(
        200, json={"id_token": CANARY, "access_token": f"{CANARY}\n", "refresh_token": f"rt-{CANARY}"}
    ),
}


def _raise(error: Exception) -> httpx.Response:
    raise error


def answering(monkeypatch: pytest.MonkeyPatch, answer: Callable[[httpx.Request], httpx.Response]) -> None:
    real = httpx.AsyncClient
    monkeypatch.setattr(httpx, "AsyncClient", lambda **kw: real(transport=httpx.MockTransport(answer), **kw))


async def raised_by(call: Awaitable[object]) -> BaseException:
    with pytest.raises((AuthError, RateLimitsUnavailable)) as raised:
        await call
    return raised.value


@pytest.mark.parametrize("failure", FAILURES)
async def test_the_issuer(monkeypatch: pytest.MonkeyPatch, failure: str) -> None:
    answering(monkeypatch, FAILURES[failure])
    authority, device = HttpTokenAuthority(ISSUER.url, "client"), HttpDeviceEndpoint(ISSUER)
    secret = Secret(f"rt-{CANARY}")
    code = DeviceCode(device_auth_id=secret, user_code=CANARY, interval=5, verification_url="https://issuer.example")
    calls: dict[str, Awaitable[object]] = {
        "request": device.request(),
        "exchange": exchange_code(ISSUER, code=secret, redirect_uri="http://localhost/", code_verifier=secret),
        "exchange of a device": device.exchange(DeviceApproval(secret, secret)),
        "identify": authority.identify(secret),
    }
    if failure != "malformed":
        calls |= {"refresh": authority.refresh(secret), "revoke": authority.revoke(secret)}
    calls["poll"] = device.poll(code)
    for name, call in calls.items():
        error = await raised_by(call)
        assert isinstance(error, AuthError), name
        assert_clean(error)


@pytest.mark.parametrize("failure", FAILURES)
async def test_a_refresh_and_its_events(monkeypatch: pytest.MonkeyPatch, failure: str) -> None:
    answering(monkeypatch, FAILURES[failure])
    clock = ManualClock()
    tokens = make_tokens(now=clock.now(), expires_in=-1)
    canary = ChatgptTokens.read(
        id_token=tokens.id_token.reveal() + CANARY,
        access_token=tokens.access_token.reveal() + CANARY,
        refresh_token=f"rt-{CANARY}",
    )
    events: list[Event] = []
    settings = RefreshSettings(total=0.0, rechecks=())
    engine = AuthEngine(MemoryStore(canary), HttpTokenAuthority(ISSUER.url, "client"), clock=clock, settings=settings)
    engine.subscribe(events.append)
    await engine.start()
    refused = Authorization.of(engine.session)
    for call in (engine.refresh(), engine.authorization(), engine.recover(refused)):
        assert_clean(await raised_by(call))
    told = [event.error for event in events if isinstance(event, RefreshFailed)]
    assert told
    for error in told:
        assert isinstance(error, IssuerUnavailable | PermanentRefreshError)
        assert error.__traceback__ is None
        assert_clean(error)
    await engine.close(0)


async def test_a_parents_answer() -> None:
    parent = FakeParent()
    clock = ManualClock()
    engine = AuthEngine(MemoryStore(), HttpTokenAuthority(ISSUER.url, "client"), parent=parent, clock=clock)
    events: list[Event] = []
    engine.subscribe(events.append)
    await engine.start()
    token = make_jwt(exp=9e9) + CANARY
    await engine.use_external_tokens(ExternalTokens.read(access_token=token, account_id="org-1"))
    parent.will_answer(ValueError(f"a bug with {CANARY}"))
    assert_clean(await raised_by(engine.recover(await engine.authorization())))
    parent.will_answer(ExternalTokens.read(access_token=token, account_id="org-2"))
    assert_clean(await raised_by(engine.recover(await engine.authorization())))
    for event in events:
        if isinstance(event, RefreshFailed):
            assert_clean(event.error)
    await engine.close(0)


@pytest.mark.parametrize("failure", sorted(FAILURES.keys() - {"malformed"}))
async def test_rate_limits(monkeypatch: pytest.MonkeyPatch, failure: str) -> None:
    answering(monkeypatch, FAILURES[failure])
    engine = AuthEngine(MemoryStore(ApiKey(Secret(CANARY))), HttpTokenAuthority(ISSUER.url, "client"))
    await engine.start()
    error = await raised_by(read_rate_limits(engine, "https://backend.example"))
    assert_clean(error)
    await engine.close(0)


@pytest.mark.parametrize("member", ["access_token", "account_id"])
@pytest.mark.parametrize("end", [" ", "\n", "\r\nX: y", "\0", "\x7f", "é", "\t"])
async def test_what_fits_in_no_header_is_refused_when_it_is_read(tmp_path: Path, member: str, end: str) -> None:
    good = {"id_token": make_jwt(), "access_token": f"at-{CANARY}", "refresh_token": "rt", "account_id": "org-1"}
    values: dict[str, Any] = good | {member: good[member] + CANARY + end}
    with pytest.raises(InvalidCredentials) as refused:
        ChatgptTokens.read(**values)
    assert_clean(refused.value)
    external = {"access_token": values["access_token"], "account_id": values["account_id"], "id_token": make_jwt()}
    with pytest.raises(InvalidCredentials) as refused:
        ExternalTokens.read(**external)
    assert_clean(refused.value)

    place = tmp_path / "auth.json"
    place.write_bytes(msgspec.json.encode({"auth_mode": "chatgpt", "tokens": values}))
    error = await raised_by(AuthJsonStore(tmp_path).load())
    assert isinstance(error, StoreUnreadable)
    assert "header" in str(error)
    assert CANARY not in str(error)


@pytest.mark.parametrize("key", [f"{CANARY} x", f"{CANARY}é", f"{CANARY}\0", CANARY + "x" * 300_000])
def test_a_key_that_fits_in_no_header(key: str) -> None:
    with pytest.raises(InvalidCredentials) as refused:
        ApiKey.parse(key)
    assert_clean(refused.value)


@pytest.mark.parametrize("member", ["id_token", "refresh_token"])
def test_half_a_character_is_refused_before_a_codec_quotes_the_token(member: str) -> None:
    good = {"id_token": make_jwt(), "access_token": make_jwt(), "refresh_token": "rt"}
    values: dict[str, Any] = good | {member: f"{good[member]}{CANARY}\ud800"}
    with pytest.raises(InvalidCredentials, match="no valid text") as refused:
        ChatgptTokens.read(**values)
    assert_clean(refused.value)
    if member == "id_token":
        with pytest.raises(InvalidCredentials, match="no valid text") as refused:
            ExternalTokens.read(access_token=make_jwt(), id_token=values[member])
        assert_clean(refused.value)
    by_hand = Secret(values[member])
    assert by_hand == Secret(values[member]) != Secret(CANARY)
    assert len(fingerprint_of(by_hand)) == 32


class BrokenStore(MemoryStore):
    """Cannot be locked, because of a bug."""

    def locked(self) -> Any:
        raise KeyError("a bug")


class StuckStore(MemoryStore):
    """Is locked by somebody else, for ever."""

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[HeldStore]:
        await asyncio.Event().wait()
        async with super().locked() as held:
            yield held


@pytest.mark.parametrize("kind", ["sk", "at"])
@pytest.mark.parametrize("store", [BrokenStore, StuckStore])
async def test_the_text_of_a_key_whose_sign_in_ends_early(store: type[MemoryStore], kind: str) -> None:
    """Crash reports show the frames of a cancellation behind a TimeoutError, and of a bug."""
    authority = FakeAuthority()
    authority.owners[f"{kind}-{CANARY}"] = Account(account_id="org-1")
    engine = AuthEngine(store(), authority)
    await engine.start()
    with pytest.raises((TimeoutError, KeyError)) as ended:
        async with asyncio.timeout(0.02):
            await engine.use_api_key(f"{kind}-{CANARY}")
    assert_clean(ended.value)
    await engine.close(0)


def test_the_text_of_a_key_whose_sign_in_ends_early_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    with SyncAuthEngine(AuthEngine(BrokenStore(), FakeAuthority())) as engine:
        with pytest.raises(KeyError) as ended:
            engine.use_api_key(f"sk-{CANARY}")
        assert_clean(ended.value)
    with SyncAuthEngine(AuthEngine(StuckStore(), FakeAuthority())) as engine:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt) as interrupted:
            patch.setattr(Future, "result", _interrupt)
            engine.use_api_key(f"sk-{CANARY}")
        assert_clean(interrupted.value)


def _interrupt(self: "Future[Any]", timeout: float | None = None) -> Any:
    raise KeyboardInterrupt


async def test_credentials_made_by_hand_are_refused_before_httpx_sees_them() -> None:
    engine = AuthEngine(MemoryStore(ApiKey(Secret(f"{CANARY}\n"))), HttpTokenAuthority(ISSUER.url, "client"))
    await engine.start()
    authorization = await engine.authorization()
    with pytest.raises(InvalidCredentials) as refused:
        authorization.headers()
    assert CANARY not in str(refused.value)
    await engine.close(0)
