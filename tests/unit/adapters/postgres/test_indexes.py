"""No statement of a store reads a whole table: the time of each is that of one account, however many there are."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest

from authstate.adapters.postgres import admin_statements, lease_statements, statements

TABLES = {"accounts", "leases", "refresh_claims"}
VALUES: dict[str, Any] = {
    "account": "account-17",
    "writer": UUID(int=17),
    "generation": 2,
    "holder": "a test",
    "seconds": 5.0,
    "margin": 5.0,
    "key_id": "key-1",
    "login": b"login",
    "login_fingerprint": "fingerprint",
    "fingerprint": "fingerprint-17-3",
    "state": "spent",
    "at": 0.0,
    "sends": 1,
    "reason": None,
    "detail": "",
    "owner": "",
    "successor": "",
    "kept": 64,
    "checked": b"checked",
    "since": 1.0,
    "after": "account-17",
    "count": 100,
    "new_key_id": "key-2",
    "names": ["account-17", "account-18"],
    "accounts": ["account-17", "account-18"],
    "versions": [1, 1],
    "sealed": [b"one", b"other"],
    "current": "key-2",
    "digest": f"{17:064}",
    "digests": [f"{17:064}", f"{18:064}"],
    "id": "lease-17",
    "details": b"details",
    "ttl": 60.0,
    "most": 100,
}
READ_EVERYTHING = {"COUNT_ACCOUNTS", "COUNT_LEASES", "COUNT_LOGINS", "SCHEMA_VERSION", "VERSION_OF_TABLES"}
"""They count, for a person."""
STATEMENTS = {
    name: statement
    for module in (statements, admin_statements, lease_statements)
    for name, statement in vars(module).items()
    if name.isupper() and not name.startswith("_") and name not in READ_EVERYTHING
}


@pytest.fixture
def connection(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """A database with many accounts."""
    with psycopg.connect(database_url, autocommit=True) as opened:
        opened.execute(
            """
            INSERT INTO authstate.accounts (account, generation, writer, holder, version, key_id, login, fingerprint)
            SELECT 'account-' || n, 1, gen_random_uuid(), '', 1, 'key-' || n % 3, sha256(n::text::bytea),
                'fingerprint-' || n
            FROM generate_series(1, 5000) AS n
            """
        )
        opened.execute(
            """
            INSERT INTO authstate.refresh_claims
            SELECT 'account-' || n, 'fingerprint-' || n || '-' || k, k,
                CASE WHEN k = 4 AND n % 500 = 0 THEN 'doubtful' ELSE 'spent' END, 0, '', 1, NULL, '', '', ''
            FROM generate_series(1, 5000) AS n, generate_series(1, 4) AS k
            """
        )
        opened.execute(
            """
            INSERT INTO authstate.leases
            SELECT lpad(n::text, 64, '0'), 'lease-' || n, 'account-' || n % 1000, 'key-' || n % 3, '', now(),
                now() + n * interval '1 s', now() + n * interval '1 s', 'active'
            FROM generate_series(1, 5000) AS n
            """
        )
        opened.execute("VACUUM ANALYZE authstate.accounts, authstate.refresh_claims, authstate.leases")
        yield opened


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", []):
        yield from nodes(inner)


def test_each_statement_finds_its_rows_by_an_index(connection: psycopg.Connection[Any]) -> None:
    assert len(STATEMENTS) > 30
    read_whole = []
    for name, statement in STATEMENTS.items():
        (plans,) = connection.execute(f"EXPLAIN (FORMAT JSON) {statement}".encode(), VALUES).fetchone() or ([],)
        plans = json.loads(plans) if isinstance(plans, str) else plans
        for node in nodes(plans[0]["Plan"]):
            if node["Node Type"] == "Seq Scan" and node["Relation Name"] in TABLES:
                read_whole.append((name, node["Relation Name"]))
    assert read_whole == []
