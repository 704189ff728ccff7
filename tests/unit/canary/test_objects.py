"""What a debugger shows of the objects of a login (repr, members, pickle) and of the tasks that carry them."""

import asyncio
import pickle
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.leaks import CANARY, assert_clean, assert_hidden
from support.login_harness import LoginHarness, agree, asked, follow_redirect, target

from authstate.adapters.app_server import wire
from authstate.adapters.child.token_dialects import Dialect, tokens_of
from authstate.adapters.cli.token_formats import TokenAnswer, TokenKind
from authstate.adapters.jsonrpc.peer import RemoteError, RpcError
from authstate.adapters.oauth.browser_login import BrowserLogin
from authstate.adapters.oauth.device_endpoint import DeviceApproval, DeviceCode
from authstate.adapters.oauth.device_login import start_device_login
from authstate.adapters.oauth.issuer import Issuer
from authstate.adapters.oauth.redirect.pasted_callback import NotTheCallback
from authstate.engine.machines.refresh_claim import RefreshClaim, RefreshClaimState, fingerprint_of
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.errors import IssuerUnavailable, LoginFailed
from authstate.engine.model.secret import Secret
from authstate.testing import LoopbackIssuer, make_jwt

JWT = make_jwt(email="person@example.com") + CANARY
TOKENS = ChatgptTokens.read(id_token=JWT, access_token=JWT, refresh_token=f"rt-{CANARY}", account_id="org-1")
CONFIDENTIAL = (
    wire.ApiKeyLogin(CANARY),
    wire.ExternalTokensLogin(CANARY, CANARY),
    wire.RefreshAnswer(CANARY),
    wire.AuthStatusResult("chatgpt", CANARY, True),
    wire.ChatgptLoginResult("id", CANARY),
    wire.DeviceCodeLoginResult("id", "https://issuer.example", CANARY),
    DeviceCode(Secret(CANARY), CANARY, 5.0, "https://issuer.example"),
    DeviceApproval(Secret(CANARY), Secret(CANARY)),
    RefreshClaim(fingerprint_of(Secret(CANARY)), RefreshClaimState.CLAIMED),
    TokenAnswer(CANARY, TokenKind.API_KEY),
    *(tokens_of(TOKENS, dialect) for dialect in Dialect),
)


@pytest.fixture(scope="module")
def loopback() -> Iterator[LoopbackIssuer]:
    with LoopbackIssuer() as running:
        yield running


@pytest.fixture
async def harness(loopback: LoopbackIssuer) -> AsyncIterator[LoginHarness]:
    harness = LoginHarness(Issuer(loopback.url, "app"), linger=60.0)
    async with harness.engine:
        yield harness


@pytest.mark.parametrize("thing", CONFIDENTIAL, ids=lambda thing: type(thing).__name__)
async def test_what_the_wire_has_in_plain_text(thing: Any) -> None:
    if not isinstance(thing, RefreshClaim | DeviceApproval):
        assert repr(thing) == str(thing) == f"{type(thing).__name__}(…)"
        with pytest.raises(TypeError):
            pickle.dumps(thing)
    assert CANARY not in repr(thing)

    async def brings() -> object:
        return thing

    task = asyncio.create_task(brings())
    await task
    assert CANARY not in repr(task), "asyncio's debug mode logs the repr of a slow task, which shows its result"


def secrets_of(login: BrowserLogin) -> list[str]:
    return [asked(login)["state"], login._question.code_verifier.reveal()]


def assert_shows_none(thing: object, secrets: list[str]) -> None:
    members = vars(thing)
    for shown in (repr(thing), repr(members), *(repr(list(vars(one).items())) for one in members.values() if has(one))):
        assert not [secret for secret in secrets if secret in shown], type(thing).__name__


def has(thing: object) -> bool:
    return type(thing).__module__.startswith("authstate.") and hasattr(thing, "__dict__")


async def test_a_browser_login_in_each_of_its_moments(harness: LoginHarness, loopback: LoopbackIssuer) -> None:
    login = await harness.start()
    secrets = [*secrets_of(login), "ac-a-secret-code"]
    assert_shows_none(login, secrets)
    assert login.auth_url == login.auth_url
    browser = asyncio.create_task(follow_redirect(login, agree(login, loopback, "ac-a-secret-code")))
    await login.attempt.wait()
    assert_shows_none(login, secrets)
    await browser
    await login.closed()
    assert login.attempt.state == "succeeded"
    holders: tuple[object, ...] = (login, login.attempt, harness.engine._flows.logins, login._server)
    for holder in holders:
        assert_shows_none(holder, secrets)
    tokens = harness.engine.session.credentials
    assert isinstance(tokens, ChatgptTokens)
    assert_shows_none(harness.engine, [tokens.access_token.reveal(), tokens.refresh_token.reveal()])
    assert_shows_none(
        harness.engine._flows.scheduler._refresher, [tokens.access_token.reveal(), tokens.refresh_token.reveal()]
    )
    unpicklable: tuple[object, ...] = (
        login,
        login.attempt,
        harness.engine.session,
        harness.engine._flows.scheduler._refresher,
    )
    for thing in unpicklable:
        with pytest.raises(Exception):  # noqa: B017 - locks and secrets refuse it, each in its own way
            pickle.dumps(thing)


@pytest.mark.parametrize("answer", [{"error": "access_denied"}, {"code": ""}, {"error": "x", "code": "ac-in-vain"}])
async def test_a_callback_with_an_error(harness: LoginHarness, answer: dict[str, str]) -> None:
    login = await harness.start()
    secrets = [*secrets_of(login), "ac-in-vain"]
    await follow_redirect(login, target(login, **answer))
    await login.closed()
    assert login.attempt.state == "failed"
    assert_shows_none(login, secrets)
    assert isinstance(login._error, LoginFailed)
    assert login._error.__traceback__ is None
    assert not [secret for secret in secrets if secret in str(login._error)]


async def test_a_pasted_address_that_is_refused(harness: LoginHarness) -> None:
    login = await harness.start()
    for pasted in (
        f"http://localhost:{login.port}/auth/callback?code={CANARY}&state={CANARY}",
        CANARY,
        f"code={CANARY}",
    ):
        with pytest.raises(NotTheCallback) as refused:
            login.paste(pasted)
        assert_clean(refused.value)
    await harness.engine.cancel_login(login.attempt.login_id)
    await login.closed()


class Endpoint:
    """A device endpoint whose every answer is secret."""

    fault: Exception | None = None

    async def request(self) -> DeviceCode:
        return DeviceCode(Secret(CANARY), CANARY, 0.0, "https://issuer.example")

    async def poll(self, code: DeviceCode) -> DeviceApproval | None:
        if self.fault is not None:
            raise self.fault
        return DeviceApproval(Secret(CANARY), Secret(CANARY))

    async def exchange(self, approval: DeviceApproval) -> ChatgptTokens:
        return TOKENS

    async def aclose(self) -> None:
        return None


@pytest.mark.parametrize("fault", [None, LoginFailed("declined"), IssuerUnavailable("503")])
async def test_a_device_login(harness: LoginHarness, fault: Exception | None) -> None:
    endpoint = Endpoint()
    endpoint.fault = fault
    login = await start_device_login(harness.engine, harness.issuer, endpoint=endpoint, clock=harness.clock)
    assert_shows_none(login, [CANARY])
    if isinstance(fault, IssuerUnavailable):
        await harness.engine.cancel_login(login.attempt.login_id)
    await login.closed()
    assert_shows_none(login, [CANARY])
    assert_hidden(harness.engine.session)


def test_what_the_other_side_says_is_in_no_text_of_the_error() -> None:
    error = RemoteError(-32600, f"I do not like {CANARY}")
    assert error.message == f"I do not like {CANARY}"
    assert_clean(error)
    assert_hidden(error)
    assert str(RpcError(-32600, "no")) == "no"


async def test_a_fault_in_a_login_task_shows_no_secret(
    harness: LoginHarness, loopback: LoopbackIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug in the middle of an exchange goes to the handler of the event loop, with the task and the error."""
    import authstate.adapters.oauth.browser_login as browser_login

    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))

    async def broken(*args: object, **kw: object) -> ChatgptTokens:
        raise KeyError("a bug")

    monkeypatch.setattr(browser_login, "exchange_code", broken)
    login = await harness.start()
    secrets = [*secrets_of(login), "ac-of-a-fault"]
    browser = asyncio.create_task(follow_redirect(login, agree(login, loopback, "ac-of-a-fault")))
    await login.closed()
    await browser
    assert login.attempt.state == "failed"
    assert "bug in authstate" in str(login.attempt.message)
    signing = login._signing.exception()
    assert isinstance(signing, KeyError)
    for secret in secrets:
        monkeypatch.setattr("support.leaks.CANARY", secret)
        assert_clean(signing)
        assert secret not in repr(login._signing)
        assert secret not in str(told)


def test_the_claims_of_a_home_hold_no_token(tmp_path: Path) -> None:
    claim = RefreshClaim(fingerprint_of(Secret(CANARY)), RefreshClaimState.CLAIMED)
    assert CANARY.encode() not in pickle.dumps(claim)
    assert CANARY not in repr(claim)
