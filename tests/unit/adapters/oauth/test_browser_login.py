"""The browser login from the URL to the stored credentials, over real sockets; the issuer is a process on loopback."""

import asyncio
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from support.login_harness import LoginHarness, agree, asked, follow_redirect, get, target, until, until_exchanging
from support.ports import private_port

from authstate.adapters.config import Environment
from authstate.adapters.oauth.browser_login import BrowserLogin, start_browser_login
from authstate.adapters.oauth.issuer import Issuer
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.errors import (
    ExternalTokensActive,
    IssuerUnavailable,
    LoginAttemptEnded,
    LoginMethodForbidden,
    StoreUnavailable,
)
from authstate.engine.model.policy import LoginMethod, Policy
from authstate.testing import LoopbackIssuer, MemoryStore, make_external_tokens


async def test_a_login_that_succeeds(harness: LoginHarness, loopback: LoopbackIssuer) -> None:
    login = await harness.start()
    query = asked(login)
    assert login.auth_url.startswith(f"{loopback.url}/oauth/authorize?response_type=code&client_id=app_")
    assert query["redirect_uri"] == f"http://localhost:{login.port}/auth/callback"
    assert query["code_challenge_method"] == "S256"
    assert "allowed_workspace_id" not in query
    page = await follow_redirect(login, agree(login, loopback, email="new@x.example"))
    assert (page.status, page.title) == (200, "You are signed in")
    await asyncio.wait_for(login.closed(), 30)
    assert isinstance(harness.store.credentials, ChatgptTokens)
    assert harness.store.credentials.account.email == "new@x.example"
    assert [event.success for event in harness.outcomes] == [True]
    await harness.clock.settle()
    assert harness.authority.revoked == [harness.old.refresh_token.reveal()]
    with pytest.raises(OSError):
        await get(login.port, "/done")


async def test_the_tokens_are_stored_before_the_browser_hears_of_it(
    harness: LoginHarness, loopback: LoopbackIssuer
) -> None:
    login = await harness.start()
    async with harness.store.locked():
        visit = asyncio.create_task(get(login.port, agree(login, loopback)))
        await until(lambda: login.attempt.is_storing)
        assert (await get(login.port, "/done")).status == 404
        assert not visit.done()
        harness.assert_unchanged()
    assert (await visit).status == 303
    assert harness.store.saves == 1


async def test_forced_workspaces_are_asked_for_and_checked_before_anything_is_stored(loopback: LoopbackIssuer) -> None:
    harness = LoginHarness(Issuer(loopback.url), policy=Policy(None, ("org-1", "org-9")))
    async with harness.engine:
        login = await harness.start()
        assert asked(login)["allowed_workspace_id"] == "org-1,org-9"
        page = await follow_redirect(login, agree(login, loopback, account_id="org-2"))
        assert (page.title, "org-9" in page.text) == ("Sign-in failed", True)
        await login.closed()
        assert (harness.store.saves, harness.authority.revoked) == (0, [])
        harness.assert_unchanged()


async def test_the_browser_comes_back_to_a_port_that_the_issuer_allows(
    tmp_path: Path, loopback: LoopbackIssuer
) -> None:
    environment = {**loopback.environment, "CODEX_HOME": str(tmp_path), "AUTHSTATE_REDIRECT_PORTS": ""}
    free = private_port()
    allowed = Issuer.of(Environment.read({**environment, "AUTHSTATE_REDIRECT_PORTS": str(free)}))
    async with LoginHarness(allowed).engine as engine:
        login = await start_browser_login(engine, allowed)
        assert login.port == free
        login.attempt.end("cancelled", "enough")
        await login.closed()
    assert Issuer.of(Environment.read(environment)).redirect_ports == ()


def test_what_a_browser_login_takes_is_loaded_when_one_starts() -> None:
    modules = (
        "cli.main",
        "cli.login",
        "assembly",
        "app_server.server",
        "app_server.interactive_logins",
        "app_server.account_api",
    )
    imports = ", ".join(f"authstate.adapters.{name}" for name in modules)
    code = f"import sys, {imports}\nprint([name for name in ('h11', 'httpx', 'webbrowser') if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


# What ends it before it succeeds


async def test_a_person_who_declines(harness: LoginHarness) -> None:
    login = await harness.start()
    page = await follow_redirect(login, target(login, error="access_denied"))
    assert page.title == "Sign-in failed"
    assert "The sign-in was declined" in page.text and "<code>access_denied</code>" in page.text
    assert "which says" not in page.text
    await login.closed()
    assert [(event.success, "declined" in (event.error or "")) for event in harness.outcomes] == [(False, True)]
    harness.assert_unchanged()


ENDINGS = {
    "cancel": ("cancelled", "Sign-in cancelled"),
    "time": ("expired", "Sign-in expired"),
    "logout": ("superseded", "Sign-in replaced"),
    "external": ("superseded", "Sign-in replaced"),
    "another": ("superseded", "Sign-in replaced"),
}


async def end(harness: LoginHarness, login: BrowserLogin, how: str) -> None:
    if how == "cancel":
        assert await harness.engine.cancel_login(login.attempt.login_id)
    elif how == "time":
        await harness.clock.elapse(600)
    elif how == "logout":
        await harness.engine.log_out()
    elif how == "external":
        await harness.engine.use_external_tokens(make_external_tokens())
    else:
        await harness.start()


@pytest.mark.parametrize("how", ENDINGS)
async def test_a_browser_that_is_back_by_then_is_shown_how_it_ended(
    harness: LoginHarness, loopback: LoopbackIssuer, how: str
) -> None:
    loopback.behave("exchange", mode="hang", times=1)
    login = await harness.start()
    visit = asyncio.create_task(follow_redirect(login, agree(login, loopback)))
    await until_exchanging(login)
    await end(harness, login, how)
    page = await asyncio.wait_for(visit, 30)
    assert (login.attempt.state, page.title) == ENDINGS[how]
    await login.closed()
    assert [event.success for event in harness.outcomes if event.login_id == login.attempt.login_id] == [False]
    assert harness.store.saves == 0


@pytest.mark.parametrize("how", ENDINGS)
async def test_a_browser_that_comes_back_later_finds_nobody(
    harness: LoginHarness, loopback: LoopbackIssuer, how: str
) -> None:
    before = loopback.stats()["requests"].get("/oauth/token", 0)
    login = await harness.start()
    await end(harness, login, how)
    assert not login._server.is_listening, "the port is free at once"
    with pytest.raises(OSError):
        await get(login.port, agree(login, loopback))
    await login.closed()
    assert login.attempt.state == ENDINGS[how][0]
    assert loopback.stats()["requests"].get("/oauth/token", 0) == before


async def test_the_browser_has_only_so_long_to_ask_how_it_ended(loopback: LoopbackIssuer) -> None:
    harness = LoginHarness(Issuer(loopback.url), linger=0.05)
    async with harness.engine:
        login = await harness.start()
        answer = await get(login.port, agree(login, loopback))
        assert answer.location == "/done"
        await asyncio.wait_for(login.closed(), 30)
        with pytest.raises(OSError):
            await get(login.port, "/done")
        assert harness.store.saves == 1


async def test_the_end_of_the_program_ends_it(harness: LoginHarness) -> None:
    login = await harness.start()
    await harness.engine.close()
    await login.closed()
    assert login.attempt.state == "superseded"
    with pytest.raises(OSError):
        await get(login.port, "/")


# Where it cannot begin


async def test_where_it_cannot_begin(loopback: LoopbackIssuer) -> None:
    harness = LoginHarness(Issuer(loopback.url), policy=Policy(LoginMethod.API))
    await harness.engine.start()
    with pytest.raises(LoginMethodForbidden):
        await harness.start()
    harness.engine.set_policy(Policy())
    with pytest.raises(IssuerUnavailable, match="CODEX_APP_SERVER_LOGIN_ISSUER"):
        await start_browser_login(harness.engine, Issuer("ftp://nobody"), ports=(0,))
    await harness.engine.use_external_tokens(make_external_tokens())
    with pytest.raises(ExternalTokensActive):
        await harness.start()
    assert [event.success for event in harness.outcomes] == [True]


async def test_something_comes_first_while_the_port_is_opened(
    harness: LoginHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening = asyncio.Event()

    async def forever(ports: object) -> None:
        opening.set()
        await asyncio.Event().wait()

    monkeypatch.setattr("authstate.adapters.oauth.browser_login.open_port", forever)
    starting = asyncio.create_task(harness.start())
    await opening.wait()
    await harness.engine.log_out()
    with pytest.raises(LoginAttemptEnded, match="signed out"):
        await starting
    starting = asyncio.create_task(harness.start())
    opening.clear()
    await opening.wait()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert [event.success for event in harness.outcomes] == [False, False]


# What the issuer and the store do to it

BAD_ANSWERS: list[tuple[dict[str, Any], str]] = [
    ({"mode": "status", "status": 400, "code": "invalid_grant"}, "refused the sign-in with the error invalid_grant"),
    ({"mode": "status", "status": 503}, "status 503"),
    ({"mode": "html"}, "without the tokens"),
    ({"mode": "empty"}, "without the tokens"),
    ({"mode": "garbage"}, "without the tokens"),
    ({"mode": "huge"}, "more than 1048576 bytes"),
    ({"mode": "reset"}, "gave no answer"),
    ({"mode": "lost"}, "gave no answer"),
    ({"mode": "redirect"}, "redirect"),
    ({"mode": "bad_id_token"}, "cannot be read"),
    ({"mode": "partial"}, "without the tokens"),
]


@pytest.mark.parametrize(("behaviour", "said"), BAD_ANSWERS, ids=[one["mode"] for one, _ in BAD_ANSWERS])
async def test_an_issuer_that_gives_no_tokens(
    harness: LoginHarness, loopback: LoopbackIssuer, behaviour: dict[str, Any], said: str
) -> None:
    loopback.behave("exchange", **behaviour)
    login = await harness.start()
    page = await follow_redirect(login, agree(login, loopback))
    assert (page.title, page.status) == ("Sign-in failed", 200)
    assert said in page.text and "that sign-in still works" in page.text
    assert ("<code>invalid_grant</code>" in page.text) == (behaviour.get("code") is not None)
    await login.closed()
    assert [event.success for event in harness.outcomes] == [False]
    assert said in (harness.outcomes[0].error or "")
    harness.assert_unchanged()


class FullStore(MemoryStore):
    """A store that can be read and locked, and not written."""

    def __init__(self) -> None:
        super().__init__()
        self.fault = StoreUnavailable("auth.json cannot be written: no space left on device: make room")

    @asynccontextmanager
    async def locked(self):  # type: ignore[no-untyped-def]
        async with super().locked() as held:
            held.save = self._save
            yield held

    async def _save(self, credentials: object) -> None:
        raise self.fault


async def test_a_store_that_cannot_be_written_at_the_last_step(loopback: LoopbackIssuer) -> None:
    store = FullStore()
    harness = LoginHarness(Issuer(loopback.url), store=store)
    store.credentials = harness.old
    async with harness.engine:
        login = await harness.start()
        page = await follow_redirect(login, agree(login, loopback))
        assert page.title == "Sign-in failed"
        assert "no space left on device: make room" in page.text
        assert "If you were signed in before, that sign-in still works." in page.text
        await login.closed()
        harness.assert_unchanged()
        assert [(event.success, event.error) for event in harness.outcomes] == [(False, str(store.fault))]
        assert (await harness.engine.authorization()).token == harness.old.access_token
        assert harness.authority.revoked == []


async def test_pages_and_addresses_hold_no_secret(harness: LoginHarness, loopback: LoopbackIssuer) -> None:
    login = await harness.start()
    address = agree(login, loopback)
    seen = [await get(login.port, address), await get(login.port, address), await get(login.port, "/done")]
    assert [answer.status for answer in seen] == [303, 409, 200]
    assert isinstance(harness.store.credentials, ChatgptTokens)
    tokens = harness.store.credentials
    secrets = [asked(login)["state"], "ac_agreed", *(t.reveal() for t in (tokens.access_token, tokens.refresh_token))]
    for answer in seen:
        text = answer.text + repr(answer.headers)
        assert not [secret for secret in (*secrets, tokens.account.email or "?") if secret in text]
