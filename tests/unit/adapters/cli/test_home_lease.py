"""`authstate status` in a home that holds a lease: what it says of it, and what to do if no broker answers."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.adopted_home import Home
from support.health_server import HEALTH

from authstate.adapters.cli.demo import read_login
from authstate.adapters.cli.main import main
from authstate.adapters.config import StoreMode
from authstate.adapters.config.settings import BROKER_VARIABLE, REFRESH_URL_VARIABLE, REVOKE_URL_VARIABLE
from authstate.adapters.vault.home_account import leased
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.lease_handle import LeaseHandle
from authstate.testing import LoopbackIssuer

Captured = pytest.CaptureFixture[str]
ADOPTED = "the vault of this home has this login, and auth.json a lease on it"
LEASED = "auth.json holds a lease, and no login"


@pytest.fixture(autouse=True)
def home(empty_home: Path, monkeypatch: pytest.MonkeyPatch, loopback: LoopbackIssuer) -> Home:
    """A home with a login, and an issuer on loopback."""
    for name, value in loopback.environment.items():
        monkeypatch.setenv(name, value)
    made = Home(empty_home, StoreMode.FILE)
    asyncio.run(made.sign_in(read_login(loopback.seed(email="person@example.com"))))
    return made


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Sets the variables that name a broker."""

    def name(url: str) -> None:
        monkeypatch.setenv(BROKER_VARIABLE, url)
        monkeypatch.setenv(REFRESH_URL_VARIABLE, f"{url}/oauth/token")
        monkeypatch.setenv(REVOKE_URL_VARIABLE, f"{url}/oauth/revoke")

    return name


def shown(capsys: Captured) -> tuple[str, dict[str, Any]]:
    """What `status` prints: the text, and the lease in the JSON."""
    assert main(["status"]) == 0
    text = capsys.readouterr().out
    assert main(["status", "--json"]) == 0
    lease: dict[str, Any] = json.loads(capsys.readouterr().out)["homeLease"]
    return text, lease


def lease_from_elsewhere(home: Home) -> None:
    """Write what `lease new --into` writes."""

    async def steps() -> None:
        tokens = await home.stands_there()
        assert isinstance(tokens, ChatgptTokens)
        await home.sign_in(leased(tokens, LeaseHandle.of(b"7" * 32).secret.reveal()))

    asyncio.run(steps())


def test_a_home_with_a_login_has_no_lease(capsys: Captured) -> None:
    text, lease = shown(capsys)
    assert lease is None
    assert "lease" not in text


def test_an_adopted_home_without_a_broker(home: Home, capsys: Captured) -> None:
    asyncio.run(home.adoption.adopt())
    text, lease = shown(capsys)
    assert f"\n  lease         {ADOPTED}" in text
    assert "\n  what to do    no broker answers: start `authstate broker`, or move the login back with" in text
    assert (lease["madeBy"], lease["hasBroker"]) == ("this_vault", False)
    assert lease["message"].startswith(ADOPTED)
    assert "`authstate broker release`" in lease["advice"]


def test_an_adopted_home_whose_broker_answers(
    home: Home, capsys: Captured, serve: Callable[[bytes], str], named: Callable[[str], None]
) -> None:
    asyncio.run(home.adoption.adopt())
    named(serve(HEALTH))
    text, lease = shown(capsys)
    assert (lease["hasBroker"], lease["advice"]) == (True, None)
    assert "what to do" not in text


def test_the_lease_of_an_adopted_home_that_was_ended(home: Home, capsys: Captured) -> None:
    made = asyncio.run(home.adoption.adopt())
    assert made is not None
    home.leases.end(made.id)
    text, lease = shown(capsys)
    assert "over" in lease["advice"]
    assert "`authstate broker adopt` makes another" in text


def test_the_vault_has_lost_the_login(home: Home, capsys: Captured) -> None:
    """Somebody has deleted its folder's content by hand: `status` says to sign in."""
    asyncio.run(home.adoption.adopt())
    (home.folder / "authstate" / "accounts" / "home" / "auth.json").unlink()
    assert main(["status"]) == 1
    text = capsys.readouterr().out
    assert "lease" in text
    assert "what to do    authstate login" in text


def test_a_home_with_a_lease_from_elsewhere(
    home: Home,
    capsys: Captured,
    serve: Callable[[bytes], str],
    named: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lease_from_elsewhere(home)
    monkeypatch.delenv(REFRESH_URL_VARIABLE)
    monkeypatch.delenv(REVOKE_URL_VARIABLE)
    text, lease = shown(capsys)
    assert f"\n  lease         {LEASED}" in text
    assert (lease["madeBy"], lease["hasBroker"]) == ("another_broker", False)
    assert "authstate.env" in lease["advice"]
    named(url := serve(HEALTH))
    text, lease = shown(capsys)
    assert f"the broker at {url} makes the access tokens" in text
    assert (lease["hasBroker"], lease["advice"]) == (True, None)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}"])
def test_what_answers_is_no_broker(
    home: Home, capsys: Captured, serve: Callable[[bytes], str], named: Callable[[str], None], body: bytes
) -> None:
    lease_from_elsewhere(home)
    named(url := serve(body))
    text, lease = shown(capsys)
    assert not lease["hasBroker"]
    assert f"\n  what to do    no broker answers at {url}: whoever runs it has to start it" in text


def test_a_password_in_the_url_is_not_shown(home: Home, capsys: Captured, named: Callable[[str], None]) -> None:
    lease_from_elsewhere(home)
    named("http://me:secret-word@127.0.0.1:9")
    text, lease = shown(capsys)
    assert "secret-word" not in text + json.dumps(lease)
    assert "http://127.0.0.1:9" in lease["advice"]
