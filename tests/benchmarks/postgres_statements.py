"""What single statements cost: commits with and without a notification, and a claim of an account with many claims."""

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from benchmarks.postgres_accounts import fill, name_of, new_database
from benchmarks.postgres_figures import Figure
from support.postgres import PostgresServer

from authstate.adapters.postgres import statements
from authstate.engine.machines.refresh_claim import MAX_CLAIMS
from authstate.testing import FakeAuthority

CONNECTIONS = 32
SECONDS = 2.0
SLOW_COMMIT = 5000  # microseconds
ACCOUNTS = 2000
_PLAIN = "UPDATE bare SET n = n + 1 WHERE account = %s"
_WITH_NOTIFICATION = f"WITH done AS ({_PLAIN} RETURNING n) SELECT pg_notify('bare', n::text) FROM done"
_RELAXED = """
    WITH relaxed AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
    SELECT pg_notify('bare', %s::text) FROM relaxed
"""
_KINDS = (
    ((_PLAIN,), "durable updates"),
    ((_WITH_NOTIFICATION,), "the same with a notification"),
    ((_PLAIN, _RELAXED), "the same, then a separate notification"),
)


def commits(running: PostgresServer) -> list[Figure]:
    """Update rows on many connections, each row on one of them. Commits are as they are, and then take 5 ms more.

    A notification is part of the update, or follows it in a transaction of its own that waits for no disk.
    """
    running.execute("CREATE TABLE bare (account int PRIMARY KEY, n bigint)")
    running.execute("INSERT INTO bare SELECT n, 0 FROM generate_series(1, %s) AS n", CONNECTIONS)
    figures = []
    for delay, how in ((0, ""), (SLOW_COMMIT, ", commits take 5 ms more")):
        running.configure("commit_siblings = 0", f"commit_delay = {delay}")
        running.reload()
        for statements_in_turn, what in _KINDS:
            rate = _rate(running.url(), statements_in_turn)
            figures.append(Figure(f"{what}, {CONNECTIONS} connections{how}", rate, "a second"))
    running.configure("commit_siblings = 5", "commit_delay = 0")
    running.reload()
    took = 1e3 / _rate(running.url(), (_RELAXED,))
    return [*figures, Figure("a separate notification", took, "ms")]


def _rate(url: str, statements_in_turn: Sequence[str]) -> float:
    """How often a second they are run on all connections together."""
    counts = [0] * CONNECTIONS
    ready = threading.Barrier(CONNECTIONS)

    def update(number: int) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            ready.wait()
            ends = time.perf_counter() + SECONDS
            while time.perf_counter() < ends:
                for statement in statements_in_turn:
                    connection.execute(statement.encode(), (number + 1,))
                counts[number] += 1

    threads = [threading.Thread(target=update, args=(number,)) for number in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / SECONDS


def pages_of_a_claim(running: PostgresServer) -> list[Figure]:
    """Count the pages that the claim of an account with the most claims touches, with its index and without."""
    url = new_database(running, "claims")
    fill(url, ACCOUNTS, FakeAuthority(), (), claims=MAX_CLAIMS)
    figures = []
    with psycopg.connect(url, autocommit=True) as connection:
        for how in ("with refresh_claims_number", "without it"):
            with connection.transaction(force_rollback=True):
                planned = connection.execute(
                    f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statements.CLAIM}".encode(), _CLAIM
                )
                (plans,) = planned.fetchone() or ([],)
            figures.append(Figure(f"pages of a claim, {MAX_CLAIMS} claims, {how}", _pages(plans[0]["Plan"]), ""))
            connection.execute("DROP INDEX IF EXISTS authstate.refresh_claims_number")
            connection.execute("VACUUM ANALYZE authstate.refresh_claims")
    return figures


def _pages(plan: Mapping[str, Any]) -> float:
    """What a plan and its parts that write have touched. The node above does not count the latter."""
    touched = float(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
    return touched + sum(
        _pages(part) for part in plan.get("Plans", ()) if part.get("Operation") in ("Insert", "Delete")
    )


_CLAIM: Mapping[str, Any] = {
    "account": name_of(ACCOUNTS // 2),
    "writer": "00000000-0000-0000-0000-000000000000",
    "generation": 1000,
    "seconds": 60.0,
    "fingerprint": "f" * 64,
    "state": "claimed",
    "at": 0.0,
    "holder": "bench",
    "sends": 0,
    "reason": None,
    "detail": "",
    "owner": "",
    "successor": "",
    "kept": MAX_CLAIMS,
}
