"""The engine in a sandbox, over HTTP: sign-in, refresh, and each fault."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from support.sandbox_client import SandboxClient

from authstate.adapters.assembly import open_engine
from authstate.adapters.config import Environment, load_config
from authstate.adapters.httpx_auth import EngineAuth
from authstate.adapters.oauth.browser_login import start_browser_login
from authstate.adapters.oauth.device_login import start_device_login
from authstate.adapters.oauth.issuer import Issuer
from authstate.adapters.sandbox.home import fill
from authstate.adapters.sandbox.server import RunningSandbox
from authstate.engine.engine import AuthEngine
from authstate.engine.model.credentials import ApiKey
from authstate.engine.model.errors import PermanentRefreshError, RefreshDeadReason
from authstate.engine.model.states import AuthState


@pytest.fixture
def environment(sandbox: RunningSandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """The environment of a program in the sandbox, whose home is `tmp_path`."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    return Environment.read({**sandbox.pointing.environment, "CODEX_HOME": str(tmp_path)})


@pytest.fixture
async def engine(environment: Environment) -> AsyncIterator[AuthEngine]:
    """An engine that nobody has signed in to."""
    async with open_engine(load_config(environment.home), environment) as opened:
        yield opened


@pytest.fixture
async def signed_in(sandbox: RunningSandbox, environment: Environment, tmp_path: Path) -> AsyncIterator[AuthEngine]:
    """An engine with a login of ada's, as `--signed-in ada` makes it."""
    fill(tmp_path, sandbox, "ada")
    async with open_engine(load_config(environment.home), environment) as opened:
        yield opened


async def ask_backend(engine: AuthEngine, sandbox: RunningSandbox) -> int:
    """The status of an authorized request."""
    async with httpx.AsyncClient(auth=EngineAuth(engine), trust_env=False, timeout=60) as client:
        return (await client.get(f"{sandbox.pointing.url}/backend-api/wham/usage")).status_code


def refreshes(control: SandboxClient) -> list[int | None]:
    """The status of each refresh."""
    return [request["status"] for request in control.requests() if request["endpoint"] == "refresh"]


async def test_signing_in_without_a_browser(
    engine: AuthEngine, environment: Environment, control: SandboxClient
) -> None:
    login = await start_browser_login(engine, Issuer.of(environment), ports=(0,), linger=60.0)
    answer = await asyncio.to_thread(control.post, "sign-in", authUrl=login.auth_url, account="bob")
    assert answer == {"account": "bob", "pageStatus": 200}
    await login.closed()
    assert engine.session.account is not None
    assert engine.session.account.email == "bob@example.com"
    assert [(one["account"], one["works"]) for one in control.get("logins")["logins"]] == [("bob", True)]
    exchanges = [request for request in control.requests() if request["endpoint"] == "exchange"]
    assert [(request["account"], request["status"]) for request in exchanges] == [("bob", 200)]


async def test_declining_a_sign_in(engine: AuthEngine, environment: Environment, control: SandboxClient) -> None:
    login = await start_browser_login(engine, Issuer.of(environment), ports=(0,), linger=60.0)
    await asyncio.to_thread(control.post, "sign-in", authUrl=login.auth_url, answer="decline")
    await login.closed()
    assert engine.session.state is AuthState.LOGGED_OUT
    assert login.attempt.state == "failed"


async def test_signing_in_with_a_device_code(
    engine: AuthEngine, environment: Environment, control: SandboxClient
) -> None:
    login = await start_device_login(engine, Issuer.of(environment))
    page = await asyncio.to_thread(control.http.get, "/codex/device")
    assert "ada@example.com" in page.text
    form = {"user_code": login.user_code.lower(), "person": "bob"}
    approved = await asyncio.to_thread(control.http.post, "/codex/device", data=form)
    assert "You are signed in" in approved.text
    await login.closed()
    assert engine.session.account is not None
    assert engine.session.account.email == "bob@example.com"


async def test_an_expired_token_costs_one_refresh(
    signed_in: AuthEngine, sandbox: RunningSandbox, control: SandboxClient
) -> None:
    control.post("expire", account="ada")
    statuses = await asyncio.gather(*(ask_backend(signed_in, sandbox) for _ in range(10)))
    assert set(statuses) == {200}
    assert refreshes(control) == [200]
    assert control.counts()["refreshTokensUsedTwice"] == 0


async def test_a_revoked_login(signed_in: AuthEngine, sandbox: RunningSandbox, control: SandboxClient) -> None:
    control.post("revoke", account="ada")
    for _ in range(2):
        with pytest.raises(PermanentRefreshError) as caught:
            await ask_backend(signed_in, sandbox)
    assert signed_in.session.state is AuthState.REFRESH_DEAD
    assert caught.value.reason is RefreshDeadReason.REVOKED
    assert refreshes(control) == [401]


@pytest.mark.parametrize("status", [429, 503])
async def test_a_refresh_that_is_refused_for_now_is_repeated(
    signed_in: AuthEngine, control: SandboxClient, status: int
) -> None:
    control.post("faults", endpoint="refresh", fault="refuse", status=status, times=1)
    await signed_in.refresh()
    assert refreshes(control) == [status, 200]


async def test_a_refresh_that_is_refused_for_good(signed_in: AuthEngine, control: SandboxClient) -> None:
    control.post("faults", endpoint="refresh", fault="refuse", status=400, code="invalid_grant", times=1)
    with pytest.raises(PermanentRefreshError):
        await signed_in.refresh()
    assert refreshes(control) == [400]


async def test_a_lost_answer(signed_in: AuthEngine, control: SandboxClient) -> None:
    control.post("faults", endpoint="refresh", fault="loseAnswer", times=1)
    with pytest.raises(PermanentRefreshError):
        await signed_in.refresh()
    assert refreshes(control) == [None, 401]
    assert control.counts()["refreshTokensUsedTwice"] == 1


async def test_somebody_else_signs_in_meanwhile(
    signed_in: AuthEngine, sandbox: RunningSandbox, control: SandboxClient, tmp_path: Path
) -> None:
    fill(tmp_path, sandbox, "bob")
    await signed_in.follow()
    assert signed_in.session.account is not None
    assert signed_in.session.account.email == "bob@example.com"
    assert await ask_backend(signed_in, sandbox) == 200
    assert control.requests()[-1]["account"] == "bob"


async def test_an_api_key(engine: AuthEngine, sandbox: RunningSandbox, control: SandboxClient) -> None:
    key = control.post("logins", kind="apiKey")["authJson"]["OPENAI_API_KEY"]
    await engine.use_api_key(ApiKey.parse(key))
    assert await ask_backend(engine, sandbox) == 200
