"""Another key encrypts the leases, while brokers make, find and end them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import pytest
from support.postgres import run_statement

from authstate import EncryptionKeys, PostgresDatabase
from authstate.adapters.database_broker.connection_health import ConnectionHealth
from authstate.adapters.database_broker.leases import DatabaseLeases
from authstate.adapters.postgres import rotation as subject
from authstate.adapters.postgres.admin_database import AdminDatabase
from authstate.adapters.postgres.rotation import Rotation, rotate_keys
from authstate.engine.clock import SystemClock
from authstate.engine.machines.lease import Lease, LeaseRequest, LeaseState
from authstate.engine.model.lease_handle import LeaseHandle
from authstate.testing import make_tokens

OLD, NEW = b"o" * 32, b"n" * 32
ONLY_OLD = EncryptionKeys({"old": OLD})
OLD_FIRST = EncryptionKeys({"old": OLD, "new": NEW})
BOTH = EncryptionKeys({"new": NEW, "old": OLD})
ONLY_NEW = EncryptionKeys({"new": NEW})
OWNER = make_tokens().account
Open = Callable[[EncryptionKeys], DatabaseLeases]
Rotate = Callable[[], Awaitable[Rotation]]


@pytest.fixture
async def broker(database_url: str) -> AsyncIterator[Open]:
    """Opens the leases of another broker, with its keys."""
    opened: list[tuple[PostgresDatabase, DatabaseLeases, ConnectionHealth]] = []

    def open_leases(keys: EncryptionKeys) -> DatabaseLeases:
        database = PostgresDatabase(database_url, keys, connections=2, listens=False)
        health = ConnectionHealth(database, SystemClock())
        opened.append((database, DatabaseLeases(database, health), health))
        return opened[-1][1]

    yield open_leases
    for database, leases, health in opened:
        leases.close()
        await health.close()
        await database.aclose()


@pytest.fixture
def rotate(database_url: str) -> Rotate:
    async def rotate() -> Rotation:
        async with AdminDatabase(database_url, BOTH) as database:
            return await rotate_keys(database)

    return rotate


def request(number: int, account: str = "alice") -> LeaseRequest:
    return LeaseRequest(account, OWNER, ttl=3600.0, label=f"lease {number}", signs_out=number % 2 == 0)


async def test_every_lease_is_encrypted_anew_and_nothing_else_changes(
    broker: Open, rotate: Rotate, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "_BATCH", 3)
    old = broker(ONLY_OLD)
    made = [await old.make(request(number)) for number in range(8)]
    columns = "SELECT digest, id, account, created_at, expires_at, over_at, state FROM authstate.leases ORDER BY digest"
    before = run_statement(database_url, columns)
    done = await rotate()
    assert (done.logins.done, done.leases.done, done.leases.damaged, done.left) == (0, 8, [], [])
    assert run_statement(database_url, columns) == before
    reader = broker(ONLY_NEW)
    assert [await reader.find(handle) for _, handle in made] == [lease for lease, _ in made]
    assert (await rotate()).done == 0


async def test_a_key_that_only_a_lease_needs_is_kept(broker: Open, rotate: Rotate, database_url: str) -> None:
    await broker(EncryptionKeys({"lost": b"x" * 32})).make(request(1))
    old = broker(ONLY_OLD)
    lease, _ = await old.make(request(2))
    await old.make(request(3))
    run_statement(database_url, f"UPDATE authstate.leases SET details = '\\x01' WHERE id = '{lease.id}'")
    done = await rotate()
    assert (done.leases.done, done.leases.damaged, done.left) == (1, ["alice"], ["lost", "old"])
    assert "add that key to the list" in done.unreadable["lost"]
    assert run_statement(database_url, "SELECT count(*) FROM authstate.leases WHERE key_id <> 'new'") == [(2,)]


async def test_brokers_go_on_meanwhile(broker: Open, rotate: Rotate, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each broker makes leases, finds them and ends some, until the rotation has ended."""
    monkeypatch.setattr(subject, "_BATCH", 2)
    is_over = asyncio.Event()
    has_made = asyncio.Event()
    made: dict[LeaseHandle, Lease] = {}

    async def use(leases: DatabaseLeases) -> None:
        is_last = False
        while not is_last:
            is_last = is_over.is_set()
            lease, handle = await leases.make(request(len(made)))
            made[handle] = lease
            assert await leases.find(handle) == lease
            if lease.signs_out:
                made[handle] = await leases.end(lease.id)
            if len(made) > 40:
                has_made.set()

    old = broker(ONLY_OLD)
    for number in range(20):
        lease, handle = await old.make(request(number))
        made[handle] = lease
    users = [asyncio.ensure_future(use(broker(keys))) for keys in (OLD_FIRST, BOTH)]
    async with asyncio.timeout(60):
        await has_made.wait()
    for _ in range(5):
        await rotate()
    is_over.set()
    await asyncio.gather(*users)
    assert (await rotate()).left == []
    reader = broker(ONLY_NEW)
    for handle, lease in made.items():
        assert await reader.find(handle) == lease
    assert {lease.state for lease in made.values()} == {LeaseState.ACTIVE, LeaseState.ENDED}


async def test_a_lease_that_is_over_is_encrypted_anew_too(broker: Open, rotate: Rotate) -> None:
    leases = broker(ONLY_OLD)
    lease, _ = await leases.make(request(1))
    await leases.end(lease.id)
    assert (await rotate()).left == []
    [listed] = await broker(ONLY_NEW).listed("alice")
    assert listed == msgspec.structs.replace(lease, state=LeaseState.ENDED)
