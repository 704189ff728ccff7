"""A login moves from a home into the database: it is never in neither, and never usable in both."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from support.adopted_home import Home

from authstate import (
    ApiKey,
    AuthEngine,
    AuthJsonStore,
    AuthState,
    ChatgptTokens,
    EncryptionKeys,
    PermanentRefreshError,
    PostgresDatabase,
    PostgresStore,
    StoreUnavailable,
)
from authstate.adapters.config import StoreMode
from authstate.adapters.postgres.held_row import HeldRow
from authstate.adapters.postgres.move_login import Move, move_login
from authstate.adapters.stores.file_writer import HeldAuthJson
from authstate.engine.machines.refresh_claim import RefreshClaim, RefreshClaimTrigger, fingerprint_of
from authstate.engine.ports import CredentialStore
from authstate.testing import FakeAuthority, make_tokens

TOKENS = make_tokens(expires_in=-60.0, refresh_token="rt-canary-moved")
KEY = ApiKey.parse("sk-moved-0123456789")


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
async def database(database_url: str, keys: EncryptionKeys) -> AsyncIterator[PostgresDatabase]:
    async with PostgresDatabase(database_url, keys, connections=2, listens=False) as database:
        yield database


@pytest.fixture
def home(tmp_path: Path) -> AuthJsonStore:
    return AuthJsonStore(tmp_path)


@pytest.fixture
def row(database: PostgresDatabase) -> PostgresStore:
    return PostgresStore(database, "alice", lock_timeout=30.0)


async def save(store: CredentialStore, credentials: ChatgptTokens | ApiKey | None) -> None:
    async with store.locked() as held:
        await (held.delete() if credentials is None else held.save(credentials))


async def claim(store: CredentialStore, *triggers: RefreshClaimTrigger) -> None:
    found = RefreshClaim(fingerprint_of(TOKENS.refresh_token))
    for trigger in triggers:
        found = found.after(trigger, 1_800_000_000.0)
    async with store.locked() as held:
        await held.record(found)


async def can_refresh(store: CredentialStore) -> bool:
    """Whether an engine on this store refreshes the login of a test. It changes nothing that other engines find."""
    stored = await store.load()
    if not isinstance(stored, ChatgptTokens):
        return False
    found = await store.claim_on(fingerprint_of(stored.refresh_token))
    return found is None


async def test_a_login_moves(home: AuthJsonStore, row: PostgresStore) -> None:
    await save(home, TOKENS)
    assert await move_login(home, row) is Move.MOVED
    assert await home.load() is None
    authority = FakeAuthority(TOKENS)
    async with AuthEngine(row, authority) as engine:
        await engine.authorization()
    assert authority.sent == [TOKENS.refresh_token.reveal()]
    assert await move_login(home, row) is Move.NOTHING


async def test_a_key_moves(home: AuthJsonStore, row: PostgresStore) -> None:
    await save(home, KEY)
    assert await move_login(home, row) is Move.MOVED
    assert (await home.load(), await row.load()) == (None, KEY)
    await save(home, KEY)
    assert await move_login(home, row) is Move.FINISHED
    await save(home, ApiKey.parse("sk-another-0123456789"))
    with pytest.raises(StoreUnavailable, match="holds a login already"):
        await move_login(home, row)


@pytest.mark.parametrize("step", ["mark", "marked", "save", "saved", "delete"])
async def test_whoever_ends_in_the_middle_loses_nothing_and_uses_it_in_one_place(
    home: AuthJsonStore, row: PostgresStore, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await save(home, TOKENS)
    await move_until(step, home, row, monkeypatch)
    assert TOKENS in (await home.load(), await row.load())
    assert [await can_refresh(home), await can_refresh(row)].count(True) == (0 if step in ("marked", "save") else 1)
    assert await move_login(home, row) in (Move.MOVED, Move.FINISHED)
    assert (await home.load(), await row.load()) == (None, TOKENS)
    assert await can_refresh(row)


async def move_until(step: str, source: CredentialStore, row: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin to move a login, in a process that ends before or after one of the writes."""
    with monkeypatch.context() as patched:
        kill_at(step, patched)
        with pytest.raises(Killed):
            await move_login(source, row)


def kill_at(step: str, patched: pytest.MonkeyPatch) -> None:
    """Let the process end before or after one of the writes."""

    def ends(*arguments: object) -> Any:
        raise Killed

    def ends_after(method: Callable[..., Any]) -> Callable[..., Any]:
        async def both(*arguments: object) -> None:
            await method(*arguments)
            raise Killed

        return both

    match step:
        case "mark":
            patched.setattr(HeldAuthJson, "record", ends)
        case "marked":
            patched.setattr(HeldAuthJson, "record", ends_after(HeldAuthJson.record))
        case "save":
            patched.setattr(HeldRow, "save_and_record", ends)
        case "saved":
            patched.setattr(HeldRow, "save_and_record", ends_after(HeldRow.save_and_record))
        case _:
            patched.setattr(HeldAuthJson, "delete", ends)


async def test_an_engine_of_the_old_place_says_where_the_login_is(
    home: AuthJsonStore, row: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await save(home, TOKENS)
    authority = FakeAuthority(TOKENS)
    await move_until("saved", home, row, monkeypatch)
    async with AuthEngine(home, authority) as engine:
        with pytest.raises(PermanentRefreshError, match="This login was moved to account alice in PostgreSQL at"):
            await engine.authorization()
        assert engine.session.state is AuthState.REFRESH_DEAD
    assert authority.sent == []


@pytest.mark.parametrize("change", ["refreshed", "signed out"])
async def test_what_happened_in_the_database_meanwhile_stays(
    home: AuthJsonStore, row: PostgresStore, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await save(home, TOKENS)
    await move_until("saved", home, row, monkeypatch)
    after = make_tokens(refresh_token="rt-later") if change == "refreshed" else None
    await save(row, after)
    assert await move_login(home, row) is Move.FINISHED
    assert (await home.load(), await row.load()) == (None, after)


async def test_a_row_with_a_login_is_not_overwritten(home: AuthJsonStore, row: PostgresStore) -> None:
    await save(home, TOKENS)
    await save(row, KEY)
    with pytest.raises(StoreUnavailable, match=r"account alice in .* holds a login already"):
        await move_login(home, row)
    assert (await home.load(), await row.load()) == (TOKENS, KEY)
    assert await can_refresh(home)


@pytest.mark.parametrize(
    ("triggers", "said"),
    [
        ([RefreshClaimTrigger.CLAIM], "ended in the middle of a refresh"),
        ([RefreshClaimTrigger.CLAIM, RefreshClaimTrigger.LOSE], "was lost on its way"),
        ([RefreshClaimTrigger.CLAIM, RefreshClaimTrigger.REFUSE], "can no longer be refreshed: sign in again"),
        ([RefreshClaimTrigger.CLAIM, RefreshClaimTrigger.SETTLE], "can no longer be refreshed: sign in again"),
    ],
    ids=["open", "doubtful", "dead", "spent"],
)
async def test_a_token_that_may_be_spent_is_not_moved(
    home: AuthJsonStore, row: PostgresStore, triggers: list[RefreshClaimTrigger], said: str
) -> None:
    await save(home, TOKENS)
    await claim(home, *triggers)
    with pytest.raises(StoreUnavailable, match=said):
        await move_login(home, row)
    assert (await home.load(), await row.load()) == (TOKENS, None)


async def test_a_token_that_the_row_has_used_is_not_moved(home: AuthJsonStore, row: PostgresStore) -> None:
    await save(home, TOKENS)
    await claim(row, RefreshClaimTrigger.CLAIM, RefreshClaimTrigger.SETTLE)
    with pytest.raises(StoreUnavailable, match="has used this login before"):
        await move_login(home, row)
    assert await can_refresh(home)


async def test_a_move_that_was_begun_goes_to_no_other_row(
    home: AuthJsonStore, row: PostgresStore, database: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    await save(home, TOKENS)
    await move_until("marked", home, row, monkeypatch)
    with pytest.raises(StoreUnavailable, match=r"moved to account alice in .*Repeat that command"):
        await move_login(home, database.store("bob"))
    assert await move_login(home, row) is Move.MOVED


async def test_a_wrong_key_moves_nothing(home: AuthJsonStore, row: PostgresStore, database_url: str) -> None:
    await save(row, KEY)  # notes which key has this id
    await save(home, TOKENS)
    async with PostgresDatabase(database_url, EncryptionKeys({"first": b"w" * 32}), listens=False) as wrong:
        with pytest.raises(StoreUnavailable, match="the key first is not the key that"):
            await move_login(home, wrong.store("bob"))
    assert await can_refresh(home)


async def test_a_lease_is_no_login(home: AuthJsonStore, row: PostgresStore) -> None:
    await save(home, make_tokens(refresh_token="authstate_lease_" + "0" * 43))
    with pytest.raises(StoreUnavailable, match="holds a lease of a broker"):
        await move_login(home, row)


@pytest.mark.parametrize("step", [None, "saved"])
async def test_the_login_of_an_adopted_home_moves_with_its_lease(
    tmp_path: Path, row: PostgresStore, step: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    adopted = Home(tmp_path, StoreMode.FILE)
    await adopted.sign_in(TOKENS)
    await adopted.adoption.adopt()
    if step is not None:
        await move_until(step, adopted.vault.home_account, row, monkeypatch)
    assert await move_login(adopted.vault.home_account, row) in (Move.MOVED, Move.FINISHED)
    assert (await adopted.stands_there(), await adopted.in_vault(), await row.load()) == (None, None, TOKENS)
