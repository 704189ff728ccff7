"""The account that a process uses: it is pinned, or follows what is selected when the engine says so."""

from pathlib import Path

import pytest
from unit.adapters.vault.conftest import save

from authstate.adapters.config.home import ConfigError
from authstate.adapters.vault.accounts_file import HOME_ACCOUNT, AccountEntry
from authstate.adapters.vault.vault import Vault
from authstate.adapters.vault.vault_store import VaultStore
from authstate.engine.engine import AuthEngine
from authstate.engine.model.errors import StoreUnavailable, StoreUnreadable
from authstate.engine.ports import FollowsSelection, HasRevision, ReportsLastChange
from authstate.testing import FakeAuthority, make_tokens

ONE, TWO = make_tokens(), make_tokens(account_id="org-2", email="two@example.com")


@pytest.fixture
async def work(vault: Vault) -> str:
    """The id of a second account; somebody is signed in to both."""
    account = vault.add("work").id
    await save(vault.home_account, ONE)
    await save(vault.store(account), TWO)
    return account


def test_it_offers_what_the_engine_asks_for(vault: Vault) -> None:
    store = VaultStore(vault)
    assert isinstance(store, FollowsSelection) and isinstance(store, HasRevision)
    assert isinstance(store, ReportsLastChange)


async def test_it_changes_over_when_it_is_told_and_not_before(vault: Vault, work: str) -> None:
    store = VaultStore(vault)
    assert (store.account, store.selected_store()) == (HOME_ACCOUNT, None)
    vault.select(work)
    other = store.selected_store()
    assert other is not None and other is vault.store(work)
    assert await store.load() == ONE
    store.use_store(other)
    assert await store.load() == TWO
    assert store.describe() == vault.store(work).describe()
    assert store.selected_store() is None


async def test_a_pinned_one_stays(vault: Vault, work: str) -> None:
    for name in ("work", work):
        store = VaultStore(vault, name)
        vault.select(HOME_ACCOUNT)
        assert store.is_pinned and store.selected_store() is None
        assert await store.load() == TWO
    vault.select(work)
    assert VaultStore(vault, HOME_ACCOUNT).selected_store() is None
    with pytest.raises(ConfigError, match="no account 'nobody'"):
        VaultStore(vault, "nobody")


async def test_what_is_held_stays_that_of_one_account(vault: Vault, work: str) -> None:
    store, newer = VaultStore(vault), make_tokens()
    async with store.locked() as held:
        vault.select(work)
        store.use_store(vault.store(work))
        await held.save(newer)
    assert await vault.home_account.load() == newer
    assert await vault.store(work).load() == TWO


async def test_the_revision_changes_with_the_selection_and_with_the_login(vault: Vault, work: str) -> None:
    store = VaultStore(vault)
    seen = [store.revision()]
    vault.select(work)
    seen.append(store.revision())
    store.use_store(vault.store(work))
    seen.append(store.revision())
    await save(vault.store(work), make_tokens(account_id="org-2"))
    seen.append(store.revision())
    assert len(set(map(repr, seen))) == 4
    assert await store.last_change() is not None
    assert store.findings() == []


async def test_a_removed_account_is_not_written_and_its_folder_does_not_come_back(vault: Vault, work: str) -> None:
    store = VaultStore(vault, "work")
    await save(vault.store(work), None)
    await Vault(vault.home, vault._mode).remove(work)
    with pytest.raises(StoreUnavailable, match="was removed from the vault"):
        await save(store, make_tokens())
    assert not Path(vault.folder_of(work)).exists()
    assert await store.load() is None


async def test_an_account_that_is_removed_during_the_wait_for_its_lock_is_not_written(vault: Vault, work: str) -> None:
    store = VaultStore(vault, "work")
    manager = store.locked()
    held = await manager.__aenter__()
    await held.delete()
    await manager.__aexit__(None, None, None)
    vault.file.change(lambda accounts: accounts.without(work))
    with pytest.raises(StoreUnavailable, match="was removed"):
        await save(store, make_tokens())


class TestADamagedList:
    """The logins beside it are not affected, and the home still works."""

    @pytest.fixture(autouse=True)
    def damaged(self, vault: Vault, work: str) -> None:
        Path(vault.file.path).write_text('{"entries": [')

    async def test_the_home_can_be_used_by_its_name(self, vault: Vault) -> None:
        store = VaultStore(vault, HOME_ACCOUNT)
        assert await store.load() == ONE
        newer = make_tokens()
        await save(store, newer)
        assert await store.load() == newer

    def test_nobody_knows_which_account_is_selected(self, vault: Vault) -> None:
        with pytest.raises(StoreUnreadable, match=r"accounts\.json cannot be read"):
            VaultStore(vault)

    def test_another_account_cannot_be_found(self, vault: Vault) -> None:
        with pytest.raises(StoreUnreadable, match=r"accounts\.json cannot be read"):
            VaultStore(vault, "work")

    async def test_a_process_that_uses_another_account_goes_on_with_it(self, vault: Vault, work: str) -> None:
        path = Path(vault.file.path)
        damaged = path.read_text()
        path.unlink()
        fresh = Vault(vault.home, vault._mode)
        fresh.file.change(lambda _: vault.accounts().with_entry(fresh_entry(work)).selecting(work))
        authority = FakeAuthority(TWO)
        async with AuthEngine(VaultStore(fresh), authority) as engine:
            path.write_text(damaged)
            await engine.follow()
            await engine.refresh()
            assert engine.session.account == TWO.account
        assert authority.sent == [TWO.refresh_token.reveal()]


def fresh_entry(account: str) -> AccountEntry:
    return AccountEntry(account, "work")
