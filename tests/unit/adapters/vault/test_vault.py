"""The vault of a home: accounts come and go, and no login moves."""

import asyncio
import os
from pathlib import Path

import pytest
from support.fake_keyring import FakeKeyring, fake_keyring
from unit.adapters.vault.conftest import save

from authstate.adapters.config import StoreMode
from authstate.adapters.config.home import ConfigError
from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.adapters.vault.accounts_file import HOME_ACCOUNT, AccountList
from authstate.adapters.vault.vault import Vault
from authstate.engine.model.errors import StoreUnavailable
from authstate.testing import make_tokens

__all__ = ["fake_keyring"]


def files(home: Path) -> set[str]:
    return {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()}


async def test_a_home_of_today_is_a_vault_of_one_account_without_a_file_more(home: Path, vault: Vault) -> None:
    tokens = make_tokens()
    await save(AuthJsonStore(home), tokens)
    before = files(home)
    assert vault.accounts() == AccountList()
    assert await vault.home_account.load() == tokens
    assert vault.home_account.describe() == str(home / "auth.json")
    assert not Vault.exists_in(home)
    assert files(home) == before


async def test_an_account_is_a_folder_with_a_lock_of_its_own(home: Path, vault: Vault) -> None:
    one, two = make_tokens(), make_tokens(account_id="org-2")
    await save(vault.home_account, one)
    work = vault.add("work").id
    assert Vault.exists_in(home)
    async with vault.store(work).locked() as held, vault.home_account.locked() as held_home:
        await held.save(two)
        assert await held_home.load() == one
    again = Vault(home, StoreMode.FILE)
    assert await again.store(work).load() == two
    assert (Path(again.folder_of(work)).stat().st_mode & 0o777) == 0o700
    assert again.store(work) is again.store(work)


async def test_in_the_keyring_each_account_has_an_entry(home: Path, fake_keyring: FakeKeyring) -> None:
    vault = Vault(home, StoreMode.KEYRING)
    one, two = make_tokens(), make_tokens(account_id="org-2")
    await save(vault.home_account, one)
    await save(vault.store(vault.add("work").id), two)
    assert len(fake_keyring.entries) == 2
    assert await vault.home_account.load() == one
    assert not [name for name in files(home) if name.endswith("auth.json")]


def test_memory_has_no_vault(home: Path) -> None:
    with pytest.raises(ValueError, match="no vault"):
        Vault(home, StoreMode.EPHEMERAL)


def test_a_new_account_gets_the_name_that_was_asked_for_or_one_that_is_free(vault: Vault) -> None:
    assert vault.add("work").name == "work"
    assert [vault.add(wish="me@example.com").name for _ in range(2)] == ["me@example.com", "me@example.com-2"]
    nameless = vault.add()
    assert nameless.name == nameless.id
    with pytest.raises(ConfigError, match="is taken"):
        vault.add("work")
    assert len(vault.accounts().entries) == 5


def test_whether_an_account_can_be_added_is_known_beforehand(home: Path, vault: Vault) -> None:
    vault.check_addable()
    vault.check_addable("work")
    assert not Vault.exists_in(home), "a look for the permission is no vault"
    assert vault.accounts() == AccountList()
    vault.add("work")
    with pytest.raises(ConfigError, match="is taken"):
        vault.check_addable("work")
    Path(vault.file.path).write_text("{")
    with pytest.raises(StoreUnavailable, match="cannot be read"):
        vault.check_addable("other")


async def test_selecting_and_renaming_touch_no_login(home: Path, vault: Vault) -> None:
    await save(vault.home_account, make_tokens())
    work = vault.add("work").id
    await save(vault.store(work), make_tokens(account_id="org-2"))
    logins = {path: path.stat() for path in home.rglob("auth.json")}
    vault.select(work)
    vault.rename(work, "office")
    assert vault.accounts().selected == work and vault.accounts().named("office").id == work
    assert {path: path.stat() for path in home.rglob("auth.json")} == logins
    with pytest.raises(ConfigError):
        vault.rename(work, "home")


async def test_an_account_in_which_somebody_is_signed_in_is_not_removed(vault: Vault) -> None:
    work = vault.add("work").id
    vault.select(work)
    await save(vault.store(work), make_tokens())
    with pytest.raises(StoreUnavailable, match="still holds a login"):
        await vault.remove(work)
    await save(vault.store(work), None)
    await vault.remove(work)
    assert vault.accounts() == AccountList()
    assert not os.path.exists(vault.folder_of(work))


async def test_the_homes_own_account_stays(home: Path, vault: Vault) -> None:
    tokens = make_tokens()
    await save(vault.home_account, tokens)
    await vault.remove(HOME_ACCOUNT)
    assert vault.accounts() == AccountList()
    assert await vault.home_account.load() == tokens


async def test_a_login_that_came_while_the_account_was_removed_is_kept(vault: Vault) -> None:
    work = vault.add("work").id
    store = vault.store(work)
    async with store.locked() as held:
        removal = asyncio.ensure_future(vault.remove(work))
        await asyncio.sleep(0)
        await held.save(make_tokens())
    with pytest.raises(StoreUnavailable, match="still holds a login"):
        await removal
    assert vault.accounts().find(work) is not None
