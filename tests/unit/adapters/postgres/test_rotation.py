"""Another key encrypts everything, while engines refresh, and whatever cannot be read is told."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from support.postgres import run_statement

from authstate import ApiKey, AuthEngine, ChatgptTokens, EncryptionKeys, PostgresDatabase, StoreUnreadable
from authstate.adapters.postgres import rotation as subject
from authstate.adapters.postgres.admin_database import AdminDatabase
from authstate.adapters.postgres.rotation import rotate_keys
from authstate.testing import FakeAuthority, make_tokens

OLD, NEW, OTHER = b"o" * 32, b"n" * 32, b"x" * 32
ONLY_OLD = EncryptionKeys({"old": OLD})
BOTH = EncryptionKeys({"new": NEW, "old": OLD})
ONLY_NEW = EncryptionKeys({"new": NEW})
Open = Callable[[EncryptionKeys], AdminDatabase]


@pytest.fixture
async def connect(database_url: str) -> AsyncIterator[Open]:
    opened = []

    def connect(keys: EncryptionKeys) -> AdminDatabase:
        opened.append(AdminDatabase(database_url, keys))
        return opened[-1]

    yield connect
    for database in opened:
        await database.aclose()


def key_of(number: int) -> ApiKey:
    return ApiKey.parse(f"sk-rotated-{number:04}-0123456789")


async def save(database: PostgresDatabase, count: int) -> None:
    for number in range(count):
        async with database.store(f"account-{number:04}").locked() as held:
            await held.save(key_of(number))


async def test_every_login_is_encrypted_anew_and_nothing_else_changes(
    connect: Open, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "_BATCH", 3)
    await save(connect(ONLY_OLD), 8)
    columns = "account, generation, writer, holder, held_until, version, fingerprint, changed_at, changed_by"
    before = run_statement(database_url, f"SELECT {columns} FROM authstate.accounts ORDER BY account")
    told: list[int] = []
    done = await rotate_keys(connect(BOTH), lambda rotation: told.append(rotation.done))
    assert (done.logins.done, done.left, done.logins.damaged, done.unreadable) == (8, [], [], {})
    assert told == [3, 6, 8]
    assert run_statement(database_url, f"SELECT {columns} FROM authstate.accounts ORDER BY account") == before
    database = connect(ONLY_NEW)
    for number in range(8):
        assert await database.store(f"account-{number:04}").load() == key_of(number)
    assert (await rotate_keys(connect(BOTH))).done == 0


async def test_a_login_that_changes_meanwhile_is_not_overwritten(
    connect: Open, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, writer = connect(BOTH), connect(ONLY_OLD)
    await save(writer, 2)
    seal, changed = database.logins.seal, ApiKey.parse("sk-changed-0123456789")
    writes = [changed]

    async def seal_late(account: str, plaintext: bytes, column: str) -> object:
        while writes:
            async with writer.store("account-0000").locked() as held:
                await held.save(writes.pop())
        return await seal(account, plaintext, column)

    monkeypatch.setattr(database.logins, "seal", seal_late)
    done = await rotate_keys(database)
    assert (done.done, done.left) == (2, [])
    assert await connect(ONLY_NEW).store("account-0000").load() == changed


async def test_who_signs_out_meanwhile_stays_signed_out(
    connect: Open, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, writer = connect(BOTH), connect(ONLY_OLD)
    await save(writer, 1)
    seal = database.logins.seal

    async def seal_late(account: str, plaintext: bytes, column: str) -> object:
        async with writer.store("account-0000").locked() as held:
            await held.delete()
        return await seal(account, plaintext, column)

    monkeypatch.setattr(database.logins, "seal", seal_late)
    assert (await rotate_keys(database)).done == 0
    assert run_statement(database_url, "SELECT login, key_id FROM authstate.accounts") == [(None, None)]


async def test_a_login_is_encrypted_anew_while_a_process_holds_its_row(connect: Open) -> None:
    holder = connect(BOTH)
    await save(connect(ONLY_OLD), 1)
    async with holder.store("account-0000").locked() as held:
        assert (await rotate_keys(connect(BOTH))).done == 1
        assert await held.load() == key_of(0)
        await held.save(key_of(7))
    assert await connect(ONLY_NEW).store("account-0000").load() == key_of(7)


async def test_what_cannot_be_read_is_told_and_left_as_it_is(connect: Open, database_url: str) -> None:
    await save(connect(ONLY_OLD), 3)
    async with connect(EncryptionKeys({"lost": OTHER})).store("lost").locked() as held:
        await held.save(key_of(9))
    run_statement(database_url, "UPDATE authstate.accounts SET login = '\\x01' WHERE account = 'account-0001'")
    before = run_statement(
        database_url, "SELECT login FROM authstate.accounts WHERE account IN ('account-0001', 'lost')"
    )
    done = await rotate_keys(connect(BOTH))
    assert (done.done, done.logins.damaged, done.left) == (2, ["account-0001"], ["lost", "old"])
    assert list(done.unreadable) == ["lost"] and "add that key to the list" in done.unreadable["lost"]
    after = run_statement(
        database_url, "SELECT login FROM authstate.accounts WHERE account IN ('account-0001', 'lost')"
    )
    assert sorted(after) == sorted(before)


async def test_a_wrong_key_with_a_known_id_changes_nothing(connect: Open, database_url: str) -> None:
    await save(connect(ONLY_OLD), 1)
    await rotate_keys(connect(BOTH))
    before = run_statement(database_url, "SELECT * FROM authstate.accounts")
    with pytest.raises(StoreUnreadable, match="the key new is not the key that"):
        await rotate_keys(connect(EncryptionKeys({"new": OTHER, "old": OLD})))
    assert run_statement(database_url, "SELECT * FROM authstate.accounts") == before


async def test_two_rotations_at_once_end_well(
    connect: Open, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "_BATCH", 4)
    await save(connect(ONLY_OLD), 20)
    done = await asyncio.gather(*(rotate_keys(connect(BOTH)) for _ in range(3)))
    assert sum(one.done for one in done) == 20
    assert [one.left for one in done] == [[], [], []]


async def test_engines_refresh_meanwhile_and_every_token_survives(
    connect: Open, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each engine refreshes again and again until the rotation has ended, and once more."""
    monkeypatch.setattr(subject, "_BATCH", 2)
    is_over = asyncio.Event()
    refreshes: dict[str, int] = {}
    sent = asyncio.Event()

    async def refresh(database: PostgresDatabase, account: str) -> tuple[str, FakeAuthority]:
        tokens = make_tokens(email=f"{account}@example.com", refresh_token=f"rt-{account}")
        async with database.store(account).locked() as held:
            await held.save(tokens)
        authority = FakeAuthority(tokens)
        async with AuthEngine(database.store(account), authority) as engine:
            is_last = False
            while not is_last:
                is_last = is_over.is_set()
                await engine.recover(await engine.authorization())
                refreshes[account] = refreshes.get(account, 0) + 1
                if len(refreshes) == len(accounts):
                    sent.set()
        return account, authority

    accounts = [f"account-{number}" for number in range(6)]
    await save(connect(ONLY_OLD), 20)
    database = PostgresDatabase(database_url, BOTH, connections=4)
    late = PostgresDatabase(database_url, EncryptionKeys({"old": OLD, "new": NEW}), connections=4)  # encrypts with old
    async with database, late:
        engines = [
            asyncio.ensure_future(refresh(late if number % 2 else database, account))
            for number, account in enumerate(accounts)
        ]
        async with asyncio.timeout(60):
            await sent.wait()
        for _ in range(5):
            await rotate_keys(connect(BOTH))
        is_over.set()
        results = await asyncio.gather(*engines)
    assert (await rotate_keys(connect(BOTH))).left == []
    reader = connect(ONLY_NEW)
    for account, authority in results:
        stored = await reader.store(account).load()
        assert isinstance(stored, ChatgptTokens)
        assert authority.live == {stored.refresh_token.reveal()}
        assert len(set(authority.sent)) == len(authority.sent)
