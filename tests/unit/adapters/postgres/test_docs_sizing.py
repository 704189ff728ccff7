"""docs/sizing.md: its statements work, and its plan follows from its figures. docs/scaling.md: its two tables agree."""

import re

import psycopg
from benchmarks.postgres_plan import figures_of, plan
from support.paths import REPO

from authstate import AuthEngine, EncryptionKeys, PostgresDatabase
from authstate.testing import FakeAuthority

PAGE = (REPO / "docs" / "sizing.md").read_text(encoding="utf-8")
STATEMENTS = re.findall(r"^```sql\n(.*?)^```$", PAGE, re.M | re.S)


async def test_the_statements_of_the_page_work_and_so_does_a_refresh_afterwards(
    database_url: str, keys: EncryptionKeys
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE authstate.refresh_claims SET (fillfactor = 80)")
        for text in STATEMENTS:
            for statement in text.split(";\n"):
                if statement:
                    connection.execute(statement.encode())
        authority = FakeAuthority()
        async with PostgresDatabase(database_url, keys, connections=1, listens=False) as database:
            async with database.store("alice").locked() as held:
                await held.save(authority.issue())
            async with AuthEngine(database.store("alice"), authority) as engine:
                for _ in range(3):
                    await engine.refresh()
        tables = connection.execute("SELECT tableoid::regclass::text FROM authstate.refresh_claims").fetchall()
    assert len(tables) == 3 and len(set(tables)) == 1
    assert len(authority.sent) == len(set(authority.sent)) == 3


def test_the_plan_follows_from_the_figures() -> None:
    """`python -m benchmarks.postgres_plan` writes it."""
    assert plan(figures_of(PAGE)) in PAGE


def test_each_failure_has_its_metrics_and_a_test_or_none() -> None:
    page = (REPO / "docs" / "scaling.md").read_text(encoding="utf-8")
    people, metrics = (
        [line.strip("| ").split(" | ") for line in table.splitlines()[1:]]
        for table in re.findall(r"^\| what fails \|.*\n((?:\|.*\n)+)", page, re.M)
    )
    assert [row[0] for row in people] == [row[0] for row in metrics]
    for failure, _, proof in metrics:
        named = re.findall(r"`(tests/[\w/.]+|test_\w+\.py)`", proof)
        assert named or "not tested" in proof, failure
        assert all(name.startswith("test_") or (REPO / name).exists() for name in named), failure
