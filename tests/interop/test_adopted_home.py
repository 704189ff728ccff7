"""A home that is adopted and released while the real codex signs in or out over its lease, or works behind `wrap`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from interop.test_codex import KEY, run, sign_in_by_codex
from interop.test_wrap import Agent
from support.adopted_home import Home
from support.codex_binaries import NEW, OLD
from support.codex_turns import model_config
from support.wire_client import AUTHSTATE
from support.wrapped import WRAP

from authstate.adapters.config import StoreMode
from authstate.engine.model.credentials import ApiKey, ChatgptTokens
from authstate.engine.model.lease_handle import is_lease
from authstate.testing import LoopbackIssuer

MakeHome = Callable[..., Path]
PERSON = {"email": "person@example.com", "account_id": "org-person"}
COLLEAGUE = {"email": "colleague@example.com", "account_id": "org-colleague"}


def status(folder: Path, issuer: LoopbackIssuer, *options: str) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(run([*AUTHSTATE, "status", "--json", *options], folder, issuer).stdout)
    return shown


async def adopted(folder: Path) -> tuple[Home, ChatgptTokens]:
    """Adopt the login of a home. Returns the home and the login."""
    home = Home(folder, StoreMode.FILE)
    tokens = await home.vault.home_account.load()
    assert isinstance(tokens, ChatgptTokens)
    assert await home.adoption.adopt() is not None
    return home, tokens


async def test_signing_out_with_codex_over_a_lease_signs_out(
    codex: Path, make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    """Without a broker: nobody is told. 0.169.0 sends the handle to the issuer, which does not know it."""
    home, tokens = await adopted(make_home(**PERSON))
    assert run([str(codex), "logout"], home.folder, issuer).returncode == 0
    assert await home.stands_there() is None
    assert await home.vault.home_account.load() is None
    assert run([*AUTHSTATE, "token"], home.folder, issuer).returncode != 0
    assert not await home.adoption.release()
    assert (await home.in_vault(), home.active()) == (None, [])
    sent = issuer.stats()["refresh_tokens_sent"]
    assert sent == [], "the login that codex signed out of is not used"
    assert tokens.refresh_token.reveal() not in "".join(
        path.read_text(errors="replace") for path in home.folder.rglob("*") if path.is_file()
    )


async def test_signing_in_with_a_key_over_a_lease_by_codex_keeps_the_login_as_an_account(
    codex: Path, make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    home, tokens = await adopted(make_home(**PERSON))
    assert run([str(codex), "login", "--with-api-key"], home.folder, issuer, KEY + "\n").returncode == 0
    found = await home.vault.home_account.load()
    assert isinstance(found, ApiKey)
    assert found.key.reveal() == KEY
    assert not await home.adoption.release()
    _, entry = home.vault.accounts().entries
    assert entry.name == "person"
    assert await home.vault.store(entry.id).load() == tokens
    assert (await home.in_vault(), home.active()) == (None, [])
    issuer.expire_access()
    shown = run([*AUTHSTATE, "token", "-c", "authstate.account=person"], home.folder, issuer)
    assert shown.returncode == 0, shown.stderr
    assert issuer.stats()["refreshes_refused"] == 0


async def test_signing_in_over_a_lease_by_codex_is_adopted_and_both_logins_work(
    binaries: dict[str, Path], make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    home, tokens = await adopted(make_home(**PERSON))
    sign_in_by_codex(binaries[NEW], home.folder, issuer, **COLLEAGUE)
    found = await home.stands_there()
    assert isinstance(found, ChatgptTokens)
    assert not is_lease(found.refresh_token)
    assert status(home.folder, issuer)["email"] == "colleague@example.com"
    lease = await home.adoption.adopt()
    assert lease is not None
    assert lease.workspace_id == "org-colleague"
    assert home.active() == [lease.digest]
    _, entry = home.vault.accounts().entries
    assert await home.vault.store(entry.id).load() == tokens
    for account, email in (("home", "colleague@example.com"), ("person", "person@example.com")):
        assert status(home.folder, issuer, "-c", f"authstate.account={account}")["email"] == email


async def test_windows_go_on_while_their_home_is_adopted_and_released(
    binaries: dict[str, Path], make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    folder = make_home(config=model_config(issuer), **PERSON)
    home = Home(folder, StoreMode.FILE)
    with (
        Agent([*WRAP, str(binaries[OLD])], folder, issuer) as old,
        Agent([*WRAP, str(binaries[NEW])], folder, issuer) as new,
    ):
        moves = (home.adoption.adopt, home.adoption.release, home.adoption.adopt, home.adoption.release)
        for number, move in enumerate(moves, start=1):
            assert await move()
            issuer.expire_access()
            begun = [(agent, agent.begin("hi")) for agent in (old, new)]
            assert [agent.completed(place)["status"] for agent, place in begun] == ["completed"] * 2
            stats = issuer.stats()
            assert (stats["refreshes_accepted"], stats["refreshes_refused"]) == (number, 0)
            found = await home.stands_there()
            assert isinstance(found, ChatgptTokens)
            assert is_lease(found.refresh_token) is (number % 2 == 1)
