"""The arguments of a sign-in: the issuer may be left out, and a wrong argument opens no login attempt."""

from typing import Any

import pytest

from authstate import (
    AuthEngine,
    ConfigError,
    Issuer,
    SyncAuthEngine,
    start_browser_login,
    start_device_login,
)
from authstate.testing import FakeAuthority, MemoryStore

STARTERS = [start_browser_login, start_device_login]


def made() -> AuthEngine:
    return AuthEngine(MemoryStore(), FakeAuthority())


async def test_without_an_issuer_it_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODEX_APP_SERVER_LOGIN_ISSUER", "https://issuer.example/")
    assert Issuer.of().url == "https://issuer.example"
    assert Issuer.of(originator="an-ide").originator == "an-ide"
    async with made() as engine:
        login = await start_browser_login(engine, ports=(0,))
        assert login.auth_url.startswith("https://issuer.example/oauth/authorize?")
        await engine.cancel_login(login.attempt.login_id)
        await login.closed()


def test_a_program_without_an_event_loop_starts_a_login_with_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODEX_APP_SERVER_LOGIN_ISSUER", "https://issuer.example")
    with SyncAuthEngine(made()) as engine:
        login = engine.call(start_browser_login, ports=(0,))
        assert login.auth_url.startswith("https://issuer.example/")
        assert engine.cancel_login(login.attempt.login_id)
        assert login.attempt.state == "cancelled"


@pytest.mark.parametrize("start", STARTERS)
async def test_a_wrong_variable_opens_no_attempt(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODEX_APP_SERVER_LOGIN_ISSUER", "issuer.example")
    async with made() as engine:
        with pytest.raises(ConfigError, match="CODEX_APP_SERVER_LOGIN_ISSUER"):
            await start(engine)
        await engine.use_api_key("sk-example")


@pytest.mark.parametrize("start", STARTERS)
async def test_arguments_of_another_type(start: Any) -> None:
    async with made() as engine:
        with pytest.raises(TypeError, match=r"issuer is of the type str: give an Issuer, such as Issuer\(url\)"):
            await start(engine, "https://issuer.example")
    with pytest.raises(TypeError, match=r"engine is of the type SyncAuthEngine.*engine\.call\(start_device_login\)"):
        await start(SyncAuthEngine(made()))
