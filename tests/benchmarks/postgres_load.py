"""What a login in PostgreSQL costs, on a real server: `python -m benchmarks.postgres_load`, in `tests/`.

Measures a refresh with 100 to 100,000 accounts in the database, refreshes a second, what the bare statements of a
refresh cost (two durable commits to one row), and the memory of a pool whose engines are idle. The issuer is in memory
and answers at once.
"""

import argparse
import asyncio
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random

import psycopg
from support.postgres import PostgresServer, programs

from authstate import (
    AuthEngine,
    ChatgptTokens,
    EncryptionKeys,
    EnginePool,
    PoolSettings,
    PostgresDatabase,
    migrate_database,
)
from authstate.adapters.postgres.sealing import seal
from authstate.adapters.stores.auth_json_format import encode
from authstate.testing import FakeAuthority, make_tokens

KEY = bytes(range(32))
KEYS = EncryptionKeys({"bench": KEY})
SIZES = (100, 1_000, 10_000, 100_000)
SAMPLES = 300
AT_ONCE = 32
_ROW = """
    COPY authstate.accounts (account, generation, writer, holder, version, key_id, login, changed_at) FROM STDIN
"""


@contextmanager
def server() -> Iterator[PostgresServer]:
    """A server in a temporary folder, with its default settings for durability."""
    with tempfile.TemporaryDirectory(prefix="authstate-pg", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        running = PostgresServer(Path(folder) / "s", programs())
        running.create()
        running.start()
        try:
            yield running
        finally:
            running.stop("immediate")


def fill(url: str, first: int, last: int, authority: FakeAuthority) -> None:
    """Store a login in each of the accounts from `first` to before `last`. All of them have expired."""
    with psycopg.connect(url) as connection, connection.cursor().copy(_ROW) as copy:
        for number in range(first, last):
            tokens = make_tokens(expires_in=-60.0)
            authority.accept(tokens)
            account = f"account-{number}"
            login = seal(KEY, "bench", account, "login", encode(tokens, None, indent=-1))
            writer = "00000000-0000-0000-0000-000000000000"
            copy.write_row((account, 1, writer, "bench", 1, "bench", login, "2026-01-01"))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE authstate.accounts")


async def refresh(database: PostgresDatabase, authority: FakeAuthority, account: str) -> float:
    """Refresh one account with a new engine. Returns the seconds of the refresh."""
    async with AuthEngine(database.store(account), authority) as engine:
        began = time.perf_counter()
        await engine.authorization()
        return time.perf_counter() - began


async def refreshes_a_second(database: PostgresDatabase, authority: FakeAuthority, accounts: Sequence[str]) -> float:
    """Refresh many accounts, a few at once."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(account: str) -> None:
        async with gate:
            await refresh(database, authority, account)

    began = time.perf_counter()
    await asyncio.gather(*map(one, accounts))
    return len(accounts) / (time.perf_counter() - began)


def bare_commits(url: str, count: int) -> float:
    """Seconds of two durable updates of one row and its claim, without authstate. The median."""
    samples = []
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS bare (account text PRIMARY KEY, generation bigint, login bytea)")
        connection.execute("INSERT INTO bare VALUES ('a', 0, %s) ON CONFLICT DO NOTHING", (bytes(3000),))
        for number in range(count):
            began = time.perf_counter()
            connection.execute("SELECT login FROM bare WHERE account = 'a'")
            connection.execute("UPDATE bare SET generation = generation + 1 WHERE account = 'a'")
            connection.execute("UPDATE bare SET login = %s WHERE account = 'a'", (number.to_bytes(4, "big") * 750,))
            samples.append(time.perf_counter() - began)
    return statistics.median(samples)


async def measure(url: str, most: int) -> None:
    """Measure and print."""
    await migrate_database(url)
    random, filled = Random(1), 0
    authority = FakeAuthority()
    first: float | None = None
    async with PostgresDatabase(url, KEYS, connections=8) as database:
        for size in (size for size in SIZES if size <= most):
            fill(url, filled, size, authority)
            fresh = [f"account-{number}" for number in range(filled, size)]
            filled = size
            chosen = random.sample(fresh, min(SAMPLES, len(fresh)))
            half = len(chosen) // 2
            took = statistics.median([await refresh(database, authority, account) for account in chosen[:half]])
            rate = await refreshes_a_second(database, authority, chosen[half:])
            first = first or took
            print(f"{size} accounts: a refresh {took * 1e3:.2f} ms ({took / first:.2f} times), {rate:.0f} a second")
        print(f"two bare commits and a read: {bare_commits(url, SAMPLES) * 1e3:.2f} ms")


async def memory(url: str, accounts: int) -> None:
    """Print the memory of a pool with so many idle engines."""
    authority = FakeAuthority()
    await migrate_database(url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("TRUNCATE authstate.accounts")
    tokens = make_tokens()
    login = encode(tokens, None, indent=-1)
    async with PostgresDatabase(url, KEYS, connections=8) as database:
        with psycopg.connect(url) as connection, connection.cursor().copy(_ROW) as copy:
            for number in range(accounts):
                account, writer = f"account-{number}", "00000000-0000-0000-0000-000000000000"
                sealed = seal(KEY, "bench", account, "login", login)
                copy.write_row((account, 1, writer, "bench", 1, "bench", sealed, "2026-01-01"))
        settings = PoolSettings(most_open=accounts, idle_after=3600.0)
        pool: EnginePool[str] = EnginePool(
            lambda account: AuthEngine(database.store(account), authority), settings=settings
        )
        async with pool:
            for number in range(accounts):
                async with pool.engine(f"account-{number}") as engine:
                    assert isinstance(engine.session.credentials, ChatgptTokens)
            assert pool.metrics().open == accounts
            used = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20
            print(f"{accounts} idle engines in one pool: {used:.0f} MB in all")


def main() -> None:
    """Measure on a server of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most", type=int, default=SIZES[-1], help="the largest number of accounts")
    parser.add_argument("--idle", type=int, default=10_000, help="engines of the pool whose memory is measured")
    options = parser.parse_args()
    with server() as running:
        asyncio.run(memory(running.url(), options.idle))
        with psycopg.connect(running.url(), autocommit=True) as connection:
            connection.execute("TRUNCATE authstate.accounts")
        asyncio.run(measure(running.url(), options.most))


if __name__ == "__main__":
    main()
