"""A connection that is lost at any statement: it is written once, or not at all, and never half."""

from collections.abc import AsyncIterator

import psycopg
import pytest
from support.cutting_proxy import CuttingProxy

from authstate import ApiKey, AuthEngine, AuthState, ChatgptTokens, EncryptionKeys, PostgresDatabase, StoreUnavailable
from authstate.testing import FakeAuthority, make_tokens

STATEMENTS = {
    "take": b"ON CONFLICT (account) DO UPDATE",
    "load": b"SELECT generation, version, key_id, login FROM authstate.accounts WHERE",
    "find claim": b"FROM authstate.refresh_claims WHERE account",
    "claim": b"), claim AS",
    "settle": b"a.version + 1",
}


@pytest.fixture
async def proxy(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[CuttingProxy]:
    monkeypatch.setattr(PostgresDatabase, "_pauses", (0.0, 0.0, 0.0))
    folder = database_url.split("host=")[1].split()[0]
    async with CuttingProxy(f"{folder}/.s.PGSQL.5432") as running:
        yield running


@pytest.fixture
async def database(database_url: str, proxy: CuttingProxy, keys: EncryptionKeys) -> AsyncIterator[PostgresDatabase]:
    name = database_url.split("dbname=")[1].split()[0]
    url = f"host=127.0.0.1 port={proxy.port} dbname={name} user=postgres"
    async with PostgresDatabase(url, keys, connections=1, listens=False) as database:
        yield database


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("statement", STATEMENTS)
async def test_a_refresh_goes_on_after_a_lost_connection(
    database: PostgresDatabase, proxy: CuttingProxy, statement: str, when: str
) -> None:
    tokens = make_tokens(expires_in=-60.0)
    authority = FakeAuthority(tokens)
    async with database.store("alice").locked() as held:
        await held.save(tokens)
    (proxy.cut_before if when == "before" else proxy.cut_after)(STATEMENTS[statement])
    async with AuthEngine(database.store("alice"), authority) as engine:
        await engine.authorization()
        assert engine.session.state is AuthState.CHATGPT
    assert proxy.cuts == 1
    assert authority.sent == [tokens.refresh_token.reveal()]
    stored = await database.store("alice").load()
    assert isinstance(stored, ChatgptTokens) and authority.live == {stored.refresh_token.reveal()}
    async with database.store("alice").locked():
        pass  # it was given free


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_claim_that_cannot_be_confirmed_sends_nothing(
    database: PostgresDatabase, proxy: CuttingProxy, when: str
) -> None:
    tokens = make_tokens(expires_in=-60.0)
    authority = FakeAuthority(tokens)
    async with database.store("alice").locked() as held:
        await held.save(tokens)
    (proxy.cut_before if when == "before" else proxy.cut_after)(STATEMENTS["claim"], times=100)
    async with AuthEngine(database.store("alice"), authority) as engine:
        with pytest.raises(StoreUnavailable, match=r"PostgreSQL at 127\.0\.0\.1"):
            await engine.authorization()
        assert authority.sent == []
        (proxy.cut_before if when == "before" else proxy.cut_after)(b"no such words")
        await engine.authorization()
    assert authority.sent == [tokens.refresh_token.reveal()]


async def test_a_server_that_ends_its_connections_is_asked_again(database: PostgresDatabase, database_url: str) -> None:
    store = database.store("alice")
    assert await store.load() is None
    with psycopg.connect(database_url, autocommit=True) as other:
        others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        assert other.execute(f"SELECT count(pg_terminate_backend(pid)) {others}").fetchone() != (0,)
    async with store.locked() as held:
        await held.save(ApiKey.parse("sk-terminated-0123456789"))
    assert await store.load() == ApiKey.parse("sk-terminated-0123456789")
