"""What is stored in the database: nothing that reveals a login, and nothing that a wrong key overwrites."""

from collections.abc import AsyncIterator, Callable

import psycopg
import pytest

from authstate import ApiKey, ChatgptTokens, EncryptionKeys, PostgresDatabase, StoreUnreadable
from authstate.engine.machines.refresh_claim import RefreshClaim, RefreshClaimTrigger
from authstate.testing import make_tokens

OLD, NEW, WRONG = b"o" * 32, b"n" * 32, b"w" * 32
TOKENS = make_tokens(email="canary@example.com", refresh_token="rt-canary-0123456789")
KEY = ApiKey.parse("sk-canary-0123456789")
Open = Callable[[EncryptionKeys], PostgresDatabase]


@pytest.fixture
async def connect(database_url: str) -> AsyncIterator[Open]:
    opened = []

    def connect(keys: EncryptionKeys) -> PostgresDatabase:
        opened.append(PostgresDatabase(database_url, keys, connections=1, listens=False))
        return opened[-1]

    yield connect
    for database in opened:
        await database.aclose()


def run(url: str, statement: str, *values: object) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode(), values)
        return cursor.fetchall() if cursor.description else []


async def save(database: PostgresDatabase, account: str, credentials: ChatgptTokens | ApiKey) -> None:
    async with database.store(account).locked() as held:
        await held.save(credentials)


async def test_the_database_reveals_no_token_and_no_email(connect: Open, database_url: str) -> None:
    database = connect(EncryptionKeys({"a": OLD}))
    await save(database, "alice", TOKENS)
    await save(database, "bob", KEY)
    dumped = ""
    for table in ("accounts", "refresh_claims", "encryption_keys", "migrations"):
        for (row,) in run(database_url, f"SELECT t::text FROM authstate.{table} t"):
            dumped += str(row)
    raw = str(run(database_url, "SELECT encode(login, 'escape') FROM authstate.accounts"))
    for secret in ("canary", "rt-", "sk-", "example.com", TOKENS.access_token.reveal()[:40]):
        assert secret not in dumped and secret not in raw and secret.encode().hex() not in dumped


@pytest.mark.parametrize("wrong", [EncryptionKeys({"a": WRONG}), EncryptionKeys({"b": WRONG})], ids=["bytes", "id"])
async def test_a_wrong_key_is_an_error_and_overwrites_nothing(
    connect: Open, database_url: str, wrong: EncryptionKeys
) -> None:
    await save(connect(EncryptionKeys({"a": OLD})), "alice", TOKENS)
    before = run(database_url, "SELECT login, key_id, version FROM authstate.accounts")
    store = connect(wrong).store("alice")
    with pytest.raises(StoreUnreadable, match="key a"):
        await store.load()
    async with store.locked() as held:
        for attempt in (held.load, lambda: held.save(KEY), held.delete):
            with pytest.raises(StoreUnreadable, match="key a"):
                await attempt()
    assert run(database_url, "SELECT login, key_id, version FROM authstate.accounts") == before
    assert await connect(EncryptionKeys({"a": OLD})).store("alice").load() == TOKENS


async def test_a_key_with_the_id_of_another_one_stores_nothing(connect: Open, database_url: str) -> None:
    await save(connect(EncryptionKeys({"a": OLD})), "alice", TOKENS)
    with pytest.raises(StoreUnreadable, match=r"the key a is not the key that .* knows by this id"):
        await save(connect(EncryptionKeys({"a": WRONG})), "bob", KEY)
    assert run(database_url, "SELECT count(login) FROM authstate.accounts") == [(1,)]


async def test_a_save_uses_the_newest_key_and_others_load_it_again(connect: Open, database_url: str) -> None:
    class Changing:
        """A key provider whose list grows."""

        keys = EncryptionKeys({"a": OLD})
        loads = 0

        async def load(self) -> EncryptionKeys:
            self.loads += 1
            return self.keys

    provider = Changing()
    follower = PostgresDatabase(database_url, provider, connections=1, listens=False)
    async with follower:
        await save(follower, "alice", KEY)
        provider.keys = EncryptionKeys({"b": NEW, "a": OLD})
        follower.logins._loaded_at -= 11.0  # they were loaded a while ago
        await save(connect(provider.keys), "alice", TOKENS)
        assert run(database_url, "SELECT key_id FROM authstate.accounts") == [("b",)]
        assert await follower.store("alice").load() == TOKENS
        assert provider.loads == 2


async def test_a_key_that_is_replaced_under_its_id_is_noticed_when_the_list_is_loaded_again(
    connect: Open, database_url: str
) -> None:
    class Changing:
        """A key provider whose list a mistake changes."""

        keys = EncryptionKeys({"a": OLD})

        async def load(self) -> EncryptionKeys:
            return self.keys

    provider = Changing()
    async with PostgresDatabase(database_url, provider, connections=1, listens=False) as database:
        await save(database, "alice", TOKENS)
        await save(connect(EncryptionKeys({"b": NEW})), "bob", KEY)
        provider.keys = EncryptionKeys({"a": WRONG, "b": NEW})
        database.logins._loaded_at -= 11.0  # they were loaded a while ago
        assert await database.store("bob").load() == KEY  # the list is loaded again
        with pytest.raises(StoreUnreadable, match=r"the key a is not the key that .* knows by this id"):
            await save(database, "alice", KEY)
    assert await connect(EncryptionKeys({"a": OLD})).store("alice").load() == TOKENS


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE authstate.accounts a SET login = b.login FROM authstate.accounts b WHERE a.account <> b.account",
        "UPDATE authstate.accounts SET login = substring(login FROM 1 FOR length(login) - 1)",
        "UPDATE authstate.accounts SET login = ''",
        "UPDATE authstate.accounts SET login = set_byte(login, 20, get_byte(login, 20) # 1)",
    ],
    ids=["swapped", "truncated", "empty", "changed"],
)
async def test_rows_that_were_tampered_with_are_told_and_can_be_signed_in_to(
    connect: Open, database_url: str, tampering: str
) -> None:
    database = connect(EncryptionKeys({"a": OLD}))
    await save(database, "alice", TOKENS)
    await save(database, "bob", KEY)
    run(database_url, tampering)
    for account in ("alice", "bob"):
        with pytest.raises(StoreUnreadable, match=f"account {account} in .* was changed or truncated, or comes from"):
            await database.store(account).load()
    await save(database, "alice", KEY)
    assert await database.store("alice").load() == KEY


async def test_text_is_stored_whatever_encoding_the_environment_names(
    connect: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    claim = RefreshClaim("f" * 32).after(RefreshClaimTrigger.CLAIM, 1_800_000_000.0)
    refused = claim.after(RefreshClaimTrigger.REFUSE, 1_800_000_001.0, detail="\u2014 \u65e5\u672c")
    store = connect(EncryptionKeys({"a": OLD})).store("alice")
    async with store.locked() as held:
        await held.record(refused)
    found = await store.claim_on("f" * 32)
    assert found is not None and found.detail == refused.detail
