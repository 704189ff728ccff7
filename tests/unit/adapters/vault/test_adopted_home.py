"""The login of an adopted home in use: windows that run meanwhile, sign-ins and sign-outs."""

import asyncio
from pathlib import Path

import pytest
from support.adopted_home import COLLEAGUE, Home, failing, home, write_as_codex
from support.fake_keyring import fake_keyring

from authstate.adapters.config.settings import StoreMode
from authstate.adapters.stores.disk import Disk
from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.adapters.vault.adoption import Adoption
from authstate.adapters.vault.vault import Vault
from authstate.adapters.vault.vault_store import VaultStore
from authstate.engine.engine import AuthEngine
from authstate.engine.model.credentials import ApiKey, ChatgptTokens, Credentials
from authstate.engine.model.lease_handle import is_lease
from authstate.engine.model.states import AuthState
from authstate.testing import FakeAuthority, ManualClock, make_tokens

__all__ = ["fake_keyring", "home"]


async def test_a_window_goes_on_while_its_home_is_adopted_and_released(home: Home) -> None:
    clock = ManualClock()
    authority = FakeAuthority(clock=clock)
    await home.sign_in(authority.issue())
    async with AuthEngine(VaultStore(home.vault), authority, clock=clock) as engine:
        for step in (home.adoption.adopt, home.adoption.release, home.adoption.adopt, home.adoption.release):
            await step()
            await engine.follow()
            assert engine.session.state is AuthState.CHATGPT
            refused = await engine.authorization()
            assert (await engine.recover(refused)).token != refused.token
            clock.advance(4000)
            await engine.authorization()
            assert await home.vault.home_account.load() == engine.session.credentials
    assert len(authority.sent) == len(set(authority.sent)) == 8


async def test_a_refresh_under_way_is_waited_for(tmp_path: Path) -> None:
    home = Home(tmp_path, StoreMode.FILE)
    clock = ManualClock()
    authority = FakeAuthority(clock=clock)
    await home.sign_in(authority.issue())
    async with AuthEngine(VaultStore(home.vault), authority, clock=clock) as engine:
        authority.hold()
        refreshing = asyncio.create_task(engine.refresh())
        await authority.asked()
        waiting = ManualClock()
        vault = Vault(tmp_path, StoreMode.FILE, waiting)
        adopting = asyncio.create_task(Adoption(vault, home.leases).adopt())
        await waiting.until_asleep()
        authority.release()
        session = await refreshing
        await waiting.elapse(1)
        assert await adopting is not None
        assert await home.in_vault() == session.credentials


async def test_signing_in_to_an_adopted_home_gives_the_home_a_lease_for_who_signed_in(home: Home) -> None:
    authority = FakeAuthority()
    await home.sign_in(authority.issue())
    first = await home.adoption.adopt()
    assert first is not None
    async with AuthEngine(VaultStore(home.vault), authority) as engine:
        await engine.complete_chatgpt_login(same := authority.issue())
        assert (await home.handle()).digest == first.digest, "the same person keeps the lease"
        assert await home.in_vault() == same
        await engine.complete_chatgpt_login(other := authority.issue(account_id="org-2", email="c@example.com"))
    assert await home.in_vault() == await home.vault.home_account.load() == other
    stands = await home.stands_there()
    assert isinstance(stands, ChatgptTokens)
    assert stands.account.is_same_as(other.account)
    lease = home.leases.find(await home.handle())
    assert lease is not None
    assert lease.is_for(other.account)
    assert home.active() == [lease.digest]


async def test_a_refresh_does_not_overwrite_who_signed_in_over_the_lease_meanwhile(home: Home) -> None:
    await home.sign_in(make_tokens())
    await home.adoption.adopt()
    other = make_tokens(**COLLEAGUE)
    async with home.vault.home_account.locked() as held:
        if home.mode is StoreMode.FILE:
            write_as_codex(home, other)
        await held.save(newer := make_tokens())
    assert await home.in_vault() == newer
    found = await home.stands_there()
    assert isinstance(found, ChatgptTokens)
    assert is_lease(found.refresh_token) is (home.mode is not StoreMode.FILE)
    if home.mode is StoreMode.FILE:
        assert found.refresh_token == other.refresh_token


async def test_a_lease_that_cannot_be_updated_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path, StoreMode.FILE)
    await home.sign_in(make_tokens())
    await home.adoption.adopt()
    before = await home.stands_there()
    async with home.vault.home_account.locked() as held:
        monkeypatch.setattr(Disk, "publish", failing("publish", "leases.json"))
        await held.save(other := make_tokens(**COLLEAGUE))
    assert await home.vault.home_account.load() == other
    assert await home.stands_there() == before


async def test_signing_out_of_an_adopted_home_removes_both(home: Home) -> None:
    authority = FakeAuthority()
    await home.sign_in(tokens := authority.issue())
    await home.adoption.adopt()
    async with AuthEngine(VaultStore(home.vault), authority) as engine:
        await engine.log_out()
    assert (await home.stands_there(), await home.in_vault()) == (None, None)
    assert authority.revoked == [tokens.refresh_token.reveal()]


async def test_signing_in_to_an_adopted_home_with_a_key_leaves_no_tokens(home: Home) -> None:
    authority = FakeAuthority()
    await home.sign_in(authority.issue())
    await home.adoption.adopt()
    key = ApiKey.parse("sk-1")
    async with AuthEngine(VaultStore(home.vault), authority) as engine:
        await engine.use_api_key(key)
    assert (await home.stands_there(), await home.in_vault()) == (key, None)
    assert await home.vault.home_account.load() == key


async def test_a_look_between_the_two_steps_of_a_release_is_no_sign_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process reads the lease in the home, the login is released, and then it looks into the empty vault."""
    home = Home(tmp_path, StoreMode.FILE)
    await home.sign_in(tokens := make_tokens())
    await home.adoption.adopt()
    store = home.vault.home_account
    original = AuthJsonStore.load

    async def load(one: AuthJsonStore) -> Credentials | None:
        if one is store.adopted:
            monkeypatch.setattr(AuthJsonStore, "load", original)
            assert await home.adoption.release()
        return await original(one)

    monkeypatch.setattr(AuthJsonStore, "load", load)
    assert await store.load() == tokens
