"""What logins in PostgreSQL cost, on a real server: `python -m benchmarks.postgres_load`, in `tests/`.

Prints a table in Markdown, and ends with status 1 if a target is missed. The issuer is in memory and answers at once.
docs/sizing.md calculates with these figures. It needs an idle machine, and about three minutes.
"""

import argparse
import asyncio
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import psycopg
from benchmarks.__main__ import machine as machine_name
from benchmarks.postgres_accounts import KEYS, fill, name_of, new_database, server
from benchmarks.postgres_broker import broker_answers
from benchmarks.postgres_figures import Figure, ServerWork, table, work_of
from benchmarks.postgres_hearing import hearing
from benchmarks.postgres_statements import commits, pages_of_a_claim
from support.database_brokers import CountingDatabase
from support.postgres import PostgresServer

from authstate import AuthEngine, EnginePool, PoolSettings
from authstate.engine.machines.refresh_claim import MAX_CLAIMS
from authstate.testing import FakeAuthority

SIZES = (100, 1_000, 10_000, 100_000)
SAMPLES = 150
"""Refreshes in each size of database."""
REFRESHES = 1000
AT_ONCE = 32
CONNECTIONS = 8
TRIES = 3
"""Other programs only ever add time: the best of so many tries counts."""
WARM_CALLS = 10_000
_REPORTED_AFTER = 1.2
"""Seconds after which a process of the server that has ended has reported what it did."""


async def one_refresh(database: CountingDatabase, authority: FakeAuthority, account: str) -> float:
    """Refresh one account with a new engine. Returns the seconds of the refresh."""
    async with AuthEngine(database.store(account), authority) as engine:
        began = time.perf_counter()
        await engine.refresh()
        return time.perf_counter() - began


async def costs_by_size(urls: dict[int, str], authority: FakeAuthority, chosen: dict[int, list[int]]) -> list[Figure]:
    """Refresh in databases of each size in turns, so that what disturbs one disturbs all."""
    times: dict[int, list[float]] = {size: [] for size in urls}
    databases = {size: CountingDatabase(url, KEYS, connections=1) for size, url in urls.items()}
    for turn in range(SAMPLES + 1):
        for size, database in databases.items():
            account = name_of(chosen[size][turn % len(chosen[size])])
            took = await one_refresh(database, authority, account)
            if turn:  # the first one connects
                times[size].append(took * 1e3)
    for database in databases.values():
        await database.aclose()
    medians = {size: statistics.median(found) for size, found in times.items()}
    figures = [Figure(f"a refresh, {size:,} accounts in the database", took, "ms") for size, took in medians.items()]
    ratio = max(medians.values()) / next(iter(medians.values()))
    return [*figures, Figure("the slowest of these, divided by the first", ratio, "times", at_most=1.3)]


async def refreshes_a_second(
    running: PostgresServer, name: str, authority: FakeAuthority, accounts: Sequence[str]
) -> list[Figure]:
    """Refresh many accounts, some at once, several times. The first time follows a checkpoint."""
    rates: list[float] = []
    works: list[ServerWork] = []
    gate = asyncio.Semaphore(AT_ONCE)
    processor = asked = 0.0
    running.execute("CHECKPOINT")
    for _ in range(TRIES):
        before = work_of(running, name)
        async with CountingDatabase(running.url(name), KEYS, connections=CONNECTIONS) as database:

            async def one(account: str, database: CountingDatabase = database) -> None:
                async with gate:
                    await one_refresh(database, authority, account)

            await asyncio.gather(*(database.store(account).load() for account in accounts[:AT_ONCE]))  # connects
            began, processor_then, asked_then = time.perf_counter(), time.process_time(), database.statements
            await asyncio.gather(*(one(account) for account in accounts))
            rates.append(len(accounts) / (time.perf_counter() - began))
            processor += time.process_time() - processor_then
            asked += database.statements - asked_then
        await asyncio.sleep(_REPORTED_AFTER)
        works.append(work_of(running, name).per(before, len(accounts)))
    client, statements = processor * 1e3 / (TRIES * len(accounts)), asked / (TRIES * len(accounts))
    cold, warm = works[0], works[-1]
    return [
        Figure(f"refreshes by one process, {AT_ONCE} at once", max(rates), "a second", at_least=200),
        Figure("processor time of a refresh in the process", client, "ms"),
        Figure("processor time of a refresh in PostgreSQL", warm.cpu_ms, "ms"),
        Figure("statements of a refresh, with one that opens the engine", statements, ""),
        Figure("row changes of a refresh", warm.updates, ""),
        Figure("those of them that change no index", warm.hot_updates, ""),
        Figure("WAL of a refresh, right after a checkpoint", cold.wal_bytes / 1e3, "kB"),
        Figure("WAL of a refresh, pages known since the checkpoint", warm.wal_bytes / 1e3, "kB"),
        Figure("whole pages in the WAL of a refresh, right after a checkpoint", cold.page_images, ""),
    ]


def sizes_of_rows(running: PostgresServer, name: str) -> list[Figure]:
    """The bytes of an account and of a claim, with their indexes."""
    sized = (
        "SELECT pg_total_relation_size('authstate.{0}'), pg_indexes_size('authstate.{0}'), count(*) FROM authstate.{0}"
    )
    account, account_indexes, accounts = running.execute(sized.format("accounts"), database=name)[0]
    claim, claim_indexes, claims = running.execute(sized.format("refresh_claims"), database=name)[0]
    whole = account / accounts + MAX_CLAIMS * claim / claims
    return [
        Figure("an account: its row, its login and its indexes", account / accounts, "bytes"),
        Figure("of that, indexes", account_indexes / accounts, "bytes"),
        Figure("a claim: its row and its indexes", claim / claims, "bytes"),
        Figure("of that, indexes", claim_indexes / claims, "bytes"),
        Figure(f"an account with {MAX_CLAIMS} claims, the most that are kept", whole / 1e3, "kB"),
    ]


def durable_commit(url: str) -> Figure:
    """One durable change of one row, without authstate: what the disk of this machine allows."""
    samples = []
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE bare (n bigint)")
        connection.execute("INSERT INTO bare VALUES (0)")
        for _ in range(2 * SAMPLES):
            began = time.perf_counter()
            connection.execute("UPDATE bare SET n = n + 1")
            samples.append((time.perf_counter() - began) * 1e3)
    return Figure("a durable commit of one row, without authstate", statistics.median(samples), "ms")


async def idle_pool(url: str, accounts: int) -> list[Figure]:
    """The memory of a pool whose engines are idle, and what an authorized call costs there."""
    settings = PoolSettings(most_open=accounts, idle_after=3600.0)
    authority = FakeAuthority()
    async with CountingDatabase(url, KEYS, connections=CONNECTIONS) as database:
        pool: EnginePool[str] = EnginePool(
            lambda account: AuthEngine(database.store(account), authority), settings=settings
        )
        async with pool:
            for number in range(accounts):
                async with pool.engine(name_of(number)) as engine:
                    await engine.authorization()
            assert pool.metrics().open == accounts
            used = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20
            before, random = database.statements, Random(1)
            called = [name_of(random.randrange(accounts)) for _ in range(WARM_CALLS)]
            began = time.perf_counter()
            for account in called:
                async with pool.engine(account) as engine:
                    await engine.authorization()
            took = (time.perf_counter() - began) * 1e6 / WARM_CALLS
            asked = database.statements - before
    return [
        Figure(f"a process with {accounts:,} idle accounts in one pool", used, "MB", at_most=300),
        Figure(f"statements of {WARM_CALLS:,} authorized calls in that pool", asked, "", at_most=0),
        Figure("an authorized call in that pool", took, "us"),
    ]


def measure(running: PostgresServer, most: int, idle: int, schema: Sequence[str]) -> list[Figure]:
    """Measure everything, the memory first."""
    authority, random = FakeAuthority(), Random(1)
    said("filling")
    fill(idle_url := new_database(running, "idle", schema), idle, authority, ())
    said("the pool")
    figures = asyncio.run(idle_pool(idle_url, idle))
    sizes = [size for size in SIZES if size <= most]
    chosen = {size: random.sample(range(size), min(size, REFRESHES)) for size in sizes}
    urls = {}
    for size in sizes:
        said(f"filling {size:,} accounts")
        urls[size] = new_database(running, f"size_{size}", schema)
        fill(urls[size], size, authority, chosen[size], claims=2)
    largest = f"size_{sizes[-1]}"
    rows = sizes_of_rows(running, largest)
    said("refreshes")
    figures += asyncio.run(costs_by_size(urls, authority, chosen))
    accounts = [name_of(number) for number in chosen[sizes[-1]]]
    figures += asyncio.run(refreshes_a_second(running, largest, authority, accounts))
    figures.append(durable_commit(idle_url))
    said("statements")
    figures += [*commits(running), *pages_of_a_claim(running)]
    said("notifications")
    figures += asyncio.run(hearing(running, "idle", idle))
    said("the broker")
    with tempfile.TemporaryDirectory() as folder:
        figures += broker_answers(running, Path(folder))
    return figures + rows


def said(step: str) -> None:
    print(f"measuring: {step}", file=sys.stderr, flush=True)


def main() -> int:
    """Measure on a server of its own. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.postgres_load", description=__doc__)
    parser.add_argument("--most", type=int, default=SIZES[-1], help="the largest number of accounts")
    parser.add_argument("--idle", type=int, default=10_000, help="engines of the pool whose memory is measured")
    parser.add_argument(
        "--sql", action="append", default=[], help="a statement to run after the tables are made, to compare schemas"
    )
    options = parser.parse_args()
    with server() as running:
        figures = measure(running, options.most, options.idle, options.sql)
    date = datetime.now(UTC).date().isoformat()
    print(f"{date}; {machine_name()}, PostgreSQL on the same machine\n\n{table(figures)}")
    return 0 if all(figure.is_met for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
