"""A home for codex that acts as another account: links to what is in the home, and a lease."""

import os
from pathlib import Path

import pytest
from unit.adapters.vault.conftest import save

from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.adapters.testing import make_tokens
from authstate.adapters.vault.account_home import AccountHome
from authstate.adapters.vault.lease_book import LeaseBook
from authstate.adapters.vault.vault import Vault
from authstate.engine.machines.refresh_claim import RefreshClaim, RefreshClaimState, fingerprint_of
from authstate.engine.model.credentials import ApiKey, ChatgptTokens, PersonalAccessToken, StaticCredentials
from authstate.engine.model.errors import NotSignedIn
from authstate.engine.model.lease_handle import LeaseHandle, is_lease

KEY = ApiKey.parse("sk-0123456789")


class Place:
    """A vault with an account `work`, and its home."""

    def __init__(self, vault: Vault) -> None:
        self.vault = vault
        self.account = vault.add("work").id
        self.leases = LeaseBook(vault.folder)
        self.home = AccountHome(vault, self.leases, self.account)

    async def stored(self) -> object:
        return await AuthJsonStore(self.home.folder).load()

    async def lease(self) -> ChatgptTokens:
        found = await self.stored()
        assert isinstance(found, ChatgptTokens) and is_lease(found.refresh_token)
        return found


@pytest.fixture
def place(vault: Vault) -> Place:
    return Place(vault)


async def test_it_holds_a_lease_and_links(place: Place, home: Path) -> None:
    tokens = make_tokens()
    await save(place.vault.store(place.account), tokens)
    (home / "config.toml").write_text("model = 'x'\n")
    (home / "state_5.sqlite").write_text("")
    folder = Path(await place.home.prepare())
    assert (folder / "config.toml").readlink() == home / "config.toml"
    assert {"sessions", "history.jsonl", "AGENTS.md"} <= {path.name for path in folder.iterdir() if path.is_symlink()}
    assert not {"authstate", "state_5.sqlite"} & set(os.listdir(folder))
    lease = await place.lease()
    assert lease.access_token == tokens.access_token and lease.last_refresh is not None
    assert tokens.refresh_token.reveal() not in (folder / "auth.json").read_text()
    found = place.leases.find(LeaseHandle.parse(lease.refresh_token.reveal()) or LeaseHandle.of(b"0" * 32))
    assert found is not None and found.account == place.account


async def test_the_same_lease_is_used_again_until_it_is_over_or_another_person_signs_in(place: Place) -> None:
    await save(place.vault.store(place.account), make_tokens())
    await place.home.prepare()
    first = await place.lease()
    await place.home.prepare()
    assert (await place.lease()).refresh_token == first.refresh_token
    place.leases.end_all_of(place.account)
    await place.home.prepare()
    second = await place.lease()
    assert second.refresh_token != first.refresh_token
    await save(place.vault.store(place.account), make_tokens(account_id="org-2"))
    await place.home.prepare()
    third = await place.lease()
    assert third.refresh_token != second.refresh_token and third.account.account_id == "org-2"


async def test_who_signs_in_with_codex_there_is_moved_into_the_vault(place: Place) -> None:
    await save(place.vault.store(place.account), make_tokens())
    await place.home.prepare()
    newer = make_tokens()
    await save(AuthJsonStore(place.home.folder), newer)
    await place.home.prepare()
    assert await place.vault.store(place.account).load() == newer
    assert (await place.lease()).access_token == newer.access_token


@pytest.mark.parametrize("key", [KEY, PersonalAccessToken.read("at-0123456789")], ids=["key", "token"])
async def test_a_static_key_stands_there_itself(place: Place, key: StaticCredentials) -> None:
    await save(place.vault.store(place.account), key)
    await place.home.prepare()
    assert await place.stored() == key
    await save(place.vault.store(place.account), make_tokens())
    await place.home.prepare()
    await place.lease()


async def test_nobody_is_signed_in(place: Place) -> None:
    with pytest.raises(NotSignedIn, match="authstate login --account work"):
        await place.home.prepare()


async def test_it_is_removed_with_its_lease_and_what_it_links_to_stays(place: Place, home: Path) -> None:
    await place.home.remove()
    await save(place.vault.store(place.account), make_tokens())
    (home / "sessions").mkdir()
    (home / "sessions" / "one").write_text("kept")
    await place.home.prepare()
    await place.home.remove()
    assert not os.path.lexists(place.home.folder)
    assert (home / "sessions" / "one").read_text() == "kept"


async def test_tokens_that_a_killed_process_left_do_not_replace_newer_ones(vault: Vault) -> None:
    """It was killed after it had moved the login into the vault, and the login was refreshed since."""
    account = vault.add("work").id
    left, newer = make_tokens(), make_tokens()
    await save(vault.store(account), newer)
    async with vault.store(account).locked() as held:
        await held.record(RefreshClaim(fingerprint_of(left.refresh_token), RefreshClaimState.SPENT, 1.0))
    home = AccountHome(vault, LeaseBook(vault.folder), account)
    await save(vault.store_of_folder(home.folder), left)
    await home.prepare()
    assert await vault.store(account).load() == newer
