"""A home for codex that acts as another account: links to what is in the home, and a lease."""

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from unit.adapters.vault.conftest import save

from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.adapters.testing.jwt import account_claims, make_jwt
from authstate.adapters.vault import account_home, codex_login
from authstate.adapters.vault.account_home import AccountHome
from authstate.adapters.vault.accounts_file import AccountEntry
from authstate.adapters.vault.lease_book import LeaseBook
from authstate.adapters.vault.vault import Vault
from authstate.engine.machines.refresh_claim import RefreshClaim, RefreshClaimState, fingerprint_of
from authstate.engine.model.credentials import (
    ApiKey,
    ChatgptTokens,
    Credentials,
    PersonalAccessToken,
    StaticCredentials,
)
from authstate.engine.model.errors import NotSignedIn
from authstate.engine.model.lease_handle import LeaseHandle, is_lease
from authstate.engine.model.secret import Secret
from authstate.testing import make_tokens

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
    folder = Path((await place.home.prepare()).folder)
    assert (folder / "config.toml").readlink() == home / "config.toml"
    assert {"sessions", "history.jsonl", "AGENTS.md"} <= {path.name for path in folder.iterdir() if path.is_symlink()}
    assert not {"authstate", "state_5.sqlite"} & set(os.listdir(folder))
    lease = await place.lease()
    assert lease.access_token == tokens.access_token and lease.last_refresh is not None
    assert tokens.refresh_token.reveal() not in (folder / "auth.json").read_text()
    found = place.leases.find(LeaseHandle.parse(lease.refresh_token.reveal()) or LeaseHandle.of(b"0" * 32))
    assert found is not None and (found.account, found.signs_out) == (place.account, True)


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
    assert len(place.vault.accounts().entries) == 2, "the old key is a copy, and gets no account"


@pytest.mark.parametrize("then", ["another key", "nothing"])
async def test_a_key_that_was_replaced_or_signed_out_does_not_come_back(place: Place, then: str) -> None:
    await save(place.vault.store(place.account), KEY)
    await place.home.prepare()
    newer = None if then == "nothing" else ApiKey.parse("sk-another-0123")
    await save(place.vault.store(place.account), newer)
    if newer is None:
        with pytest.raises(NotSignedIn):
            await place.home.prepare()
    else:
        await place.home.prepare()
    assert await place.stored() == newer
    assert await place.vault.store(place.account).load() == newer
    assert len(place.vault.accounts().entries) == 2


async def test_the_note_of_a_key_tells_nothing_of_it(place: Place) -> None:
    await save(place.vault.store(place.account), KEY)
    await place.home.prepare()
    note = Path(place.home.folder, "auth.json.authstate.key")
    assert KEY.key.reveal() not in note.read_text()
    assert note.stat().st_mode & 0o777 == 0o600
    await place.home.sign_out()
    assert not note.exists()


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
    taken = await home.take_over()
    assert taken is not None and taken.id == account
    stands = await vault.store_of_folder(home.folder).load()
    assert isinstance(stands, ChatgptTokens) and stands.access_token == newer.access_token
    assert await vault.store(account).load() == newer
    assert len(vault.accounts().entries) == 2


async def test_a_login_is_looked_for_in_a_home_that_is_missing_or_cannot_be_read(place: Place) -> None:
    tokens = make_tokens()
    assert await place.home.has_login(tokens.refresh_token) is False
    await save(AuthJsonStore(place.home.folder), tokens)
    assert await place.home.has_login(tokens.refresh_token) is True
    Path(place.home.folder, "auth.json").write_text("{")
    assert await place.home.has_login(tokens.refresh_token) is False


# Somebody else


class Visitor:
    """Somebody else who signs in with codex in the home of `work`."""

    def __init__(self, place: Place, tokens: ChatgptTokens) -> None:
        self.place = place
        self.tokens = tokens

    async def sign_in(self, login: Credentials | None = None) -> None:
        await save(AuthJsonStore(self.place.home.folder), login or self.tokens)

    def account(self) -> AccountEntry:
        """The account that was made for the visitor, the third one."""
        return self.place.vault.accounts().entries[2]


@pytest.fixture
async def visitor(place: Place) -> Visitor:
    await save(place.vault.store(place.account), make_tokens())
    await place.home.prepare()
    return Visitor(place, make_tokens(email="visitor@example.com", account_id="org-visitor", user_id="visitor"))


async def test_somebody_else_who_signs_in_there_gets_an_account(place: Place, visitor: Visitor) -> None:
    before = await place.vault.store(place.account).load()
    await visitor.sign_in()
    prepared = await place.home.prepare()
    assert await place.vault.store(place.account).load() == before
    assert prepared.taken_over_by == visitor.account()
    assert visitor.account().name == "visitor@example.com"
    assert await place.vault.store(visitor.account().id).load() == visitor.tokens
    assert (await place.lease()).account.account_id == "org-1"


async def test_until_the_next_use_the_home_acts_as_who_signed_in(place: Place, visitor: Visitor) -> None:
    await visitor.sign_in()
    assert await place.home.has_login(visitor.tokens.refresh_token)
    assert await place.home.take_over() == visitor.account()
    assert not await place.home.has_login(visitor.tokens.refresh_token)
    lease = await place.lease()
    assert lease.access_token == visitor.tokens.access_token
    found = place.leases.find(LeaseHandle.parse(lease.refresh_token.reveal()) or LeaseHandle.of(b"0" * 32))
    assert found is not None and found.account == visitor.account().id
    assert await place.home.take_over() is None


async def test_who_has_an_account_already_gets_no_second_one(place: Place, visitor: Visitor) -> None:
    await visitor.sign_in()
    await place.home.take_over()
    newer = make_tokens(email="visitor@example.com", account_id="org-visitor", user_id="visitor")
    await visitor.sign_in(newer)
    assert await place.home.take_over() == visitor.account()
    assert len(place.vault.accounts().entries) == 3
    assert await place.vault.store(visitor.account().id).load() == newer


async def test_a_key_that_codex_stored_gets_an_account(place: Place, visitor: Visitor) -> None:
    await visitor.sign_in(KEY)
    assert await place.home.take_over() == visitor.account()
    assert visitor.account().name == "api-key"
    assert await place.stored() == KEY
    assert await place.home.take_over() is None, "it is the account's key from now on"
    await place.home.prepare()
    await place.lease()
    assert await place.vault.store(visitor.account().id).load() == KEY


async def test_somebody_who_signs_in_over_a_key(place: Place, visitor: Visitor) -> None:
    await save(place.vault.store(place.account), KEY)
    await visitor.sign_in()
    await place.home.prepare()
    assert await place.vault.store(place.account).load() == await place.stored() == KEY
    assert await place.vault.store(visitor.account().id).load() == visitor.tokens


async def test_a_login_that_is_not_in_the_vault_yet_is_not_removed_with_the_home(
    place: Place, visitor: Visitor
) -> None:
    await visitor.sign_in()
    assert await place.home.remove() == []
    assert await place.vault.store(visitor.account().id).load() == visitor.tokens


async def test_another_one_who_signs_in_at_this_moment_is_not_replaced(
    place: Place, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The account of the visitor was found, and gets another login before that of the visitor is stored."""
    entry = place.vault.add("busy")
    other = make_tokens(account_id="org-busy", user_id="busy")
    await save(place.vault.store(entry.id), other)

    async def found(vault: Vault, login: Credentials) -> AccountEntry:
        return entry

    monkeypatch.setattr(codex_login, "find_login", found)
    await visitor.sign_in()
    taken = await place.home.take_over()
    assert taken is not None and taken.id not in (entry.id, place.account)
    assert await place.vault.store(entry.id).load() == other
    assert await place.vault.store(taken.id).load() == visitor.tokens


# What codex makes there for a person


async def test_a_folder_that_codex_makes_is_moved_to_the_home(place: Place, visitor: Visitor, home: Path) -> None:
    folder = Path(place.home.folder)
    (folder / "prompts").mkdir()
    (folder / "prompts" / "one.md").write_text("one")
    (folder / "log").mkdir()
    (folder / ".tmp-half").mkdir()
    (folder / "version.json").write_text("{}")
    await place.home.prepare()
    assert (folder / "prompts").readlink() == home / "prompts"
    assert (home / "prompts" / "one.md").read_text() == "one"
    assert not (folder / "version.json").is_symlink(), "a file may be in the middle of a change"
    assert not {"log", ".tmp-half"} & set(os.listdir(home))


async def test_what_codex_made_stays_when_the_home_is_removed(place: Place, visitor: Visitor, home: Path) -> None:
    folder = Path(place.home.folder)
    for name in ("prompts", "skills"):
        (folder / name).mkdir()
        (folder / name / "own").write_text(name)
    (folder / "notes.md").write_text("notes")
    (folder / "state_5.sqlite").write_text("")
    (folder / "log").mkdir()
    (home / "skills").mkdir()
    assert await place.home.remove() == [str(folder / "skills")]
    assert os.listdir(folder) == ["skills"]
    assert (home / "prompts" / "own").read_text() == "prompts"
    assert (home / "notes.md").read_text() == "notes"


# The same person, twice


def signed_in_at(tokens: ChatgptTokens, auth_time: float | None, last_refresh: float | None = None) -> ChatgptTokens:
    claims = account_claims("person@example.com", "org-1", "user-1", "plus")
    id_token = Secret(make_jwt(**claims, auth_time=auth_time)) if auth_time is not None else tokens.id_token
    return msgspec.structs.replace(tokens, id_token=id_token, last_refresh=last_refresh or tokens.last_refresh)


@pytest.mark.parametrize(
    ("left", "stored", "kept"),
    [
        ((1000.0, 90.0), (2000.0, 80.0), "stored"),
        ((2000.0, 80.0), (1000.0, 90.0), "left"),
        ((1000.0, 80.0), (1000.0, 90.0), "stored"),
        ((None, 80.0), (1000.0, 90.0), "stored"),
        ((None, 90.0), (None, 80.0), "left"),
        ((None, 80.0), (None, 80.0), "left"),
    ],
)
async def test_the_later_login_of_a_person_is_kept(
    place: Place, left: tuple[float | None, float], stored: tuple[float | None, float], kept: str
) -> None:
    logins = {"left": signed_in_at(make_tokens(), *left), "stored": signed_in_at(make_tokens(), *stored)}
    await save(place.vault.store(place.account), logins["stored"])
    await save(AuthJsonStore(place.home.folder), logins["left"])
    await place.home.prepare()
    assert await place.vault.store(place.account).load() == logins[kept]
    assert (await place.lease()).access_token == logins[kept].access_token


@pytest.mark.parametrize("where", ["the home", "the vault"])
async def test_a_dead_login_replaces_nothing(place: Place, where: str) -> None:
    stored, dead = make_tokens(), make_tokens()
    await save(place.vault.store(place.account), stored)
    source = AuthJsonStore(place.home.folder)
    await save(source, dead)
    claim = RefreshClaim(fingerprint_of(dead.refresh_token), RefreshClaimState.DEAD, 1.0)
    async with (source if where == "the home" else place.vault.store(place.account)).locked() as held:
        await held.record(claim)
    await place.home.prepare()
    assert await place.vault.store(place.account).load() == stored


async def test_a_login_without_a_refresh_token_replaces_none_that_has_one(place: Place) -> None:
    stored = make_tokens(now=1.0)
    await save(place.vault.store(place.account), stored)
    await save(AuthJsonStore(place.home.folder), make_tokens(refresh_token="", now=2.0))
    await place.home.prepare()
    assert await place.vault.store(place.account).load() == stored


async def test_a_login_in_the_home_of_a_removed_account_gets_an_account(place: Place, visitor: Visitor) -> None:
    await visitor.sign_in()
    await save(place.vault.store(place.account), None)
    await place.vault.remove(place.account)
    taken = await place.home.take_over()
    assert taken is not None and taken.name == "visitor@example.com"
    assert await place.vault.store(taken.id).load() == visitor.tokens


# codex writes meanwhile, without a lock


@pytest.mark.parametrize("method", ["prepare", "take_over", "sign_out"])
async def test_a_login_that_codex_writes_meanwhile_is_not_lost(
    place: Place, visitor: Visitor, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    first = make_tokens(email="first@example.com", account_id="org-first", user_id="first")
    await visitor.sign_in(first)
    await save(AuthJsonStore(place.vault.home), visitor.tokens)
    written = Path(place.vault.home, "auth.json").read_bytes()
    await save(AuthJsonStore(place.vault.home), None)
    real = codex_login.store_codex_login

    async def slow(*arguments: Any) -> AccountEntry:
        entry = await real(*arguments)
        if arguments[2] == first:
            Path(place.home.folder, "auth.json").write_bytes(written)
        return entry

    monkeypatch.setattr(account_home, "store_codex_login", slow)
    await getattr(place.home, method)()
    stored = [await place.vault.store(entry.id).load() for entry in place.vault.accounts().entries]
    assert first in stored
    assert visitor.tokens in stored
