"""No error of a database leads to a login or to an encryption key, whatever the server answers."""

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest
from support.leaks import CANARY, assert_clean, assert_hidden

from authstate import (
    AuthstateError,
    ChatgptTokens,
    EncryptionKeys,
    KeyFile,
    KeyVariable,
    PostgresDatabase,
    PostgresStore,
    RefreshClaim,
    RefreshClaimState,
)
from authstate.adapters.database_broker.connection_health import ConnectionHealth
from authstate.adapters.database_broker.leases import DatabaseLeases
from authstate.adapters.database_broker.owners import DatabaseOwners
from authstate.adapters.postgres import admin_statements, statements
from authstate.adapters.postgres.admin_database import AdminDatabase
from authstate.adapters.postgres.connection_target import connection_string
from authstate.adapters.postgres.connections import Row
from authstate.adapters.postgres.key_list import add_to_file
from authstate.adapters.postgres.keys import new_key
from authstate.adapters.postgres.rotation import rotate_keys
from authstate.adapters.postgres.sealing import seal
from authstate.engine.clock import SystemClock
from authstate.engine.machines.lease import LeaseRequest
from authstate.engine.model.account import Account
from authstate.engine.model.lease_handle import LeaseHandle
from authstate.testing import make_jwt

KEY = (CANARY * 6)[:32].encode()
KEYS = EncryptionKeys({"a": KEY})
TOKENS = ChatgptTokens.read(
    id_token=make_jwt(email="person@example.com") + CANARY,
    access_token=make_jwt(exp=9e9) + CANARY,
    refresh_token=f"rt-{CANARY}",
    account_id="org-1",
)
CLAIM = RefreshClaim("fingerprint", RefreshClaimState.CLAIMED)
SPENT = RefreshClaim("fingerprint", RefreshClaimState.SPENT)
FAULTS: dict[str, Exception] = {
    "connection": psycopg.OperationalError(f"connection lost: {CANARY}"),
    "rights": psycopg.errors.InsufficientPrivilege(CANARY),
    "disk full": psycopg.errors.DiskFull(CANARY),
    "violation": psycopg.errors.CheckViolation(f"failing row contains ({CANARY})"),
    "a bug of the client": psycopg.ProgrammingError(CANARY),
}
WORK: dict[str, Callable[[Any, Any], Awaitable[object]]] = {
    "load": lambda store, held: store.load(),
    "load under the lock": lambda store, held: held.load(),
    "claim": lambda store, held: held.record(CLAIM),
    "save": lambda store, held: held.save(TOKENS),
    "settle": lambda store, held: held.save_and_record(TOKENS, SPENT),
    "delete": lambda store, held: held.delete(),
    "last change": lambda store, held: store.last_change(),
}


HANDLE = LeaseHandle.parse("authstate_lease_" + (CANARY * 43)[:43])
LEASE_WORK: dict[str, Callable[[Any, Any], Awaitable[object]]] = {
    "find": lambda leases, owners: leases.find(HANDLE),
    "make": lambda leases, owners: leases.make(LeaseRequest("alice", Account("org-1"), 60.0, CANARY)),
    "end": lambda leases, owners: leases.end(CANARY),
    "list": lambda leases, owners: leases.listed("alice"),
    "end all": lambda leases, owners: leases.end_all("alice"),
    "owner": lambda leases, owners: owners.find(TOKENS.refresh_token),
}


class FailingDatabase(PostgresDatabase):
    """Answers until it is told to fail. A row holds what `stored` says."""

    _pauses = (0.0,)

    def __init__(self, keys: Any = KEYS, stored: bytes | None = None) -> None:
        super().__init__("dbname=canary", keys, listens=False)
        self.fault: Exception | None = None
        self.stored = seal(KEY, "a", "alice", "login", CANARY.encode()) if stored is None else stored

    async def _fetch_all_once(self, statement: str, values: Mapping[str, Any]) -> list[Row]:
        row = await self._fetch_once(statement, values)
        return [] if row is None else [row]

    async def _fetch_once(self, statement: str, values: Mapping[str, Any]) -> Row | None:
        if self.fault is not None:
            raise self.fault from ValueError(values)
        if statement == statements.CHECKED_KEY:
            return {"checked": seal(KEY, "a", "", "checked", b"")}
        return {"generation": 1, "version": 1, "key_id": "a", "login": self.stored}


@pytest.mark.parametrize("work", WORK)
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_server_that_fails(fault: str, work: str) -> None:
    database = FailingDatabase()
    store = PostgresStore(database, "alice")
    async with store.locked() as held:
        database.fault = FAULTS[fault]
        with pytest.raises(AuthstateError) as raised:
            await WORK[work](store, held)
        database.fault = None
    assert_clean(raised.value)
    for shown in (database, store, held, database.logins, KEYS):
        assert CANARY not in repr(shown)


@pytest.mark.parametrize("work", LEASE_WORK)
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_server_that_fails_a_broker(fault: str, work: str) -> None:
    database = FailingDatabase()
    health = ConnectionHealth(database, SystemClock())
    leases, owners = DatabaseLeases(database, health), DatabaseOwners(database)
    await database.logins.current_key()
    database.fault = FAULTS[fault]
    with pytest.raises(AuthstateError) as raised:
        await LEASE_WORK[work](leases, owners)
    assert_clean(raised.value)
    lost = await health.look()
    assert lost is not None
    assert_clean(lost)
    for shown in (leases, owners, health):
        assert CANARY not in repr(shown)


@pytest.mark.parametrize(
    ("keys", "stored"),
    [
        (KEYS, seal(KEY, "a", "bob", "login", CANARY.encode())),
        (KEYS, seal(KEY, "a", "alice", "login", f'{{"auth_mode": "{CANARY}'.encode())),
        (EncryptionKeys({"b": KEY}), None),
        (EncryptionKeys({"a": KEY[::-1]}), None),
    ],
    ids=["another row", "no login", "missing key", "wrong key"],
)
async def test_a_row_that_cannot_be_read(keys: EncryptionKeys, stored: bytes | None) -> None:
    store = PostgresStore(FailingDatabase(keys, stored), "alice")
    with pytest.raises(AuthstateError) as raised:
        await store.load()
    assert_clean(raised.value)
    async with store.locked() as held:
        with pytest.raises(AuthstateError) as raised:
            await held.load()
        assert_clean(raised.value)


def test_keys_that_cannot_be_used(tmp_path: Path) -> None:
    for text in (CANARY, f"a={CANARY}", f"{CANARY} {CANARY}=x", f"a={CANARY * 8}"):
        with pytest.raises(AuthstateError) as raised:
            EncryptionKeys.parse(text, "the list")
        assert_clean(raised.value)


async def test_a_key_file_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"a={CANARY}")
    path.chmod(0o600)
    with pytest.raises(AuthstateError) as raised:
        await KeyFile(path).load()
    assert_clean(raised.value)


async def test_what_commands_do_with_keys(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"a={CANARY}")
    with pytest.raises(AuthstateError) as raised:
        add_to_file(path, *new_key())
    assert_clean(raised.value)
    with pytest.raises(AuthstateError) as raised:
        await KeyVariable("KEYS", {"KEYS": f"a={CANARY}"}).load()
    assert_clean(raised.value)


async def test_a_rotation_that_fails() -> None:
    database = FailingRotation("dbname=canary", EncryptionKeys({"b": KEY, "a": KEY}))
    with pytest.raises(AuthstateError) as raised:
        await rotate_keys(database)
    assert_clean(raised.value)


class FailingRotation(AdminDatabase):
    """Yields a row, and fails when it is to be written."""

    _pauses = ()

    async def _fetch_all_once(self, statement: str, values: Mapping[str, Any]) -> list[Row]:
        if statement == statements.CHECKED_KEY:
            return [{"checked": values["checked"]}]
        if statement == admin_statements.OTHER_KEYS:
            return [{"key_id": "a"}]
        if statement == admin_statements.LOGINS_UNDER_KEY:
            sealed = seal(KEY, "a", "alice", "login", CANARY.encode())
            return [{"name": "alice", "account": "alice", "version": 1, "sealed": sealed}]
        raise FAULTS["violation"] from ValueError(values)


async def test_a_connection_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", CANARY)
    async with Impatient("host=127.0.0.1 port=1 dbname=x sslkey=/no/such", KEYS, listens=False) as database:
        for _ in range(2):
            with pytest.raises(AuthstateError) as raised:
                await database.store("alice").load()
            assert_clean(raised.value)


class Impatient(PostgresDatabase):
    _connect_within = 0.5


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://app:{CANARY}@host/db",
        f"host=h password={CANARY}",
        f"postgresql://app@host/db?sslpassword={CANARY}",
        f"nonsense {CANARY}",
        f"postgresql://app@host:{CANARY}:1/db?x={CANARY}",
    ],
)
def test_a_url_with_a_password_is_refused(url: str) -> None:
    with pytest.raises(AuthstateError) as raised:
        connection_string(url)
    assert_clean(raised.value)
    for kind in (PostgresDatabase, AdminDatabase):
        with pytest.raises(AuthstateError) as raised:
            kind(url, KEYS)
        assert_clean(raised.value)


def test_keys_and_databases_hide_what_they_hold() -> None:
    assert_hidden(KEYS)
    assert_hidden(FailingDatabase())
