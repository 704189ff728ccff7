"""Each statement, on a real server and on the simulated one: the same answers, whatever the order."""

import math
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model.machines.database import SimDatabase, State
from psycopg import Connection
from psycopg.rows import dict_row

from authstate.adapters.postgres import statements

HOLDS = [UUID(int=number) for number in (1, 2)]
TOKENS = ["fingerprint-a", "fingerprint-b", "fingerprint-c"]

WRITES = st.fixed_dictionaries(
    {
        "account": st.just("alice"),
        "writer": st.sampled_from(HOLDS),
        "generation": st.integers(0, 12),
        "holder": st.sampled_from(["one", "other"]),
        "seconds": st.sampled_from([-100.0, 500.0, 6000.0]),
        "margin": st.sampled_from([0.0, 50.0, 1000.0]),
        "key_id": st.sampled_from(["k", None]),
        "login": st.sampled_from([b"login", None]),
        "login_fingerprint": st.sampled_from([*TOKENS, None]),
        "fingerprint": st.sampled_from(TOKENS),
        "state": st.sampled_from(["claimed", "spent"]),
        "at": st.sampled_from([0.0, 1_800_000_000.5]),
        "sends": st.integers(0, 3),
        "reason": st.sampled_from([None, "expired"]),
        "detail": st.sampled_from(["", "a detail"]),
        "owner": st.just("someone"),
        "successor": st.sampled_from(["", "fingerprint-b"]),
        "kept": st.sampled_from([1, 2, 64]),
    }
)
STATEMENTS = {
    name: getattr(statements, name)
    for name in (
        *("TAKE", "RELEASE", "RENEW", "CLAIM", "RECORD", "FREE", "SAVE", "SETTLE"),
        *("LOAD", "FIND_CLAIM", "HOLDER", "LAST_CHANGE"),
    )
}
STEPS = st.lists(st.tuples(st.sampled_from(sorted(STATEMENTS)), WRITES), min_size=1, max_size=12)


@pytest.fixture
def connection(database_url: str) -> Iterator[psycopg.Connection[dict[str, Any]]]:
    with Connection[dict[str, Any]].connect(database_url, autocommit=True, row_factory=dict_row) as opened:
        yield opened


@given(STEPS)
@settings(
    deadline=None,
    max_examples=150,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_the_simulated_database_answers_as_the_real_one(
    connection: psycopg.Connection[dict[str, Any]], steps: list[tuple[str, dict[str, Any]]]
) -> None:
    connection.execute("TRUNCATE authstate.accounts, authstate.refresh_claims")
    now = [0.0]
    simulated = SimDatabase(lambda: now[0], lambda before, after: None)
    for name, values in steps:
        row = connection.execute(STATEMENTS[name], values).fetchone()
        now[0] = connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8 AS now").fetchone()["now"]  # type: ignore[index]
        expected = simulated.execute(STATEMENTS[name], values)
        assert_alike(row, expected)
    assert_alike_tables(connection, simulated.state)


def assert_alike(row: dict[str, Any] | None, expected: dict[str, Any] | None) -> None:
    assert (row is None) == (expected is None), (row, expected)
    for column, value in (expected or {}).items():
        found = (row or {})[column]
        if isinstance(value, float):
            assert math.isclose(found, value, abs_tol=60.0, rel_tol=0.0), column  # the statement takes a moment
        else:
            assert found == value, column


def assert_alike_tables(connection: psycopg.Connection[dict[str, Any]], state: State) -> None:
    row = connection.execute("SELECT * FROM authstate.accounts").fetchone()
    assert (row is None) == (state.row is None)
    if row is not None and state.row is not None:
        for column in ("generation", "writer", "holder", "version", "key_id", "login", "fingerprint", "changed_by"):
            assert row[column] == getattr(state.row, column), column
        for column in ("held_until", "changed_at"):
            assert (row[column] is None) == (getattr(state.row, column) is None), column
    claims = connection.execute("SELECT * FROM authstate.refresh_claims").fetchall()
    expected = [{"account": "alice", "number": claim.number, **claim.values} for claim in state.claims]
    assert sorted(map(repr_of, claims)) == sorted(map(repr_of, expected))


def repr_of(claim: dict[str, Any]) -> str:
    return repr(sorted(claim.items()))


def test_a_write_that_arrives_behind_a_later_one_is_not_done(
    connection: psycopg.Connection[dict[str, Any]],
) -> None:
    """The first try of a claim is done by the server after its repeat, and after the answer was stored."""
    base = {"account": "alice", "writer": HOLDS[0], "holder": "one", "seconds": 60.0, "margin": 5.0}
    claim = {
        **base,
        "fingerprint": TOKENS[0],
        "state": "claimed",
        "at": 0.0,
        "sends": 1,
        "reason": None,
        "detail": "",
        "owner": "",
        "successor": "",
        "kept": 64,
    }
    login = {"key_id": "k", "login": b"new", "login_fingerprint": TOKENS[1]}
    taken = connection.execute(statements.TAKE, {**base, "generation": 0}).fetchone()
    assert taken is not None
    generation = taken["generation"]
    assert connection.execute(statements.CLAIM, {**claim, "generation": generation + 1}).fetchone()
    settled = {**claim, **login, "state": "spent", "generation": generation + 2}
    assert connection.execute(statements.SETTLE, settled).fetchone()
    assert connection.execute(statements.CLAIM, {**claim, "generation": generation + 1}).fetchone() is None
    found = connection.execute(statements.FIND_CLAIM, claim).fetchone()
    assert found is not None and found["state"] == "spent"


def test_a_writer_that_takes_its_row_again_refuses_its_earlier_writes(
    connection: psycopg.Connection[dict[str, Any]],
) -> None:
    """Two writes of a database that did not answer are done only after the row was taken again."""
    base = {"account": "alice", "writer": HOLDS[0], "holder": "one", "seconds": 60.0, "margin": 5.0}
    taken = connection.execute(statements.TAKE, {**base, "generation": 0}).fetchone()
    assert taken is not None
    late = {**base, "generation": taken["generation"] + 2}
    again = connection.execute(statements.TAKE, {**base, "generation": late["generation"] + 1}).fetchone()
    assert again is not None and again["generation"] == late["generation"] + 1
    assert connection.execute(statements.RENEW, late).fetchone() is None
    assert connection.execute(statements.RELEASE, late).fetchone() is None
    assert connection.execute(statements.RENEW, {**base, "generation": again["generation"] + 1}).fetchone()


def test_a_claim_that_is_refused_removes_no_other(connection: psycopg.Connection[dict[str, Any]]) -> None:
    values = {
        "account": "alice",
        "writer": HOLDS[0],
        "holder": "one",
        "seconds": 60.0,
        "margin": 5.0,
        "state": "claimed",
        "at": 0.0,
        "sends": 1,
        "reason": None,
        "detail": "",
        "owner": "",
        "successor": "",
        "kept": 1,
    }
    assert connection.execute(statements.TAKE, {**values, "generation": 0}).fetchone()
    for generation, fingerprint in ((2, TOKENS[0]), (3, TOKENS[1])):  # the older one is removed by the next claim
        claim = {**values, "generation": generation, "fingerprint": fingerprint}
        assert connection.execute(statements.CLAIM, claim).fetchone()
    late = {**values, "generation": 1, "fingerprint": TOKENS[2]}
    assert connection.execute(statements.CLAIM, late).fetchone() is None
    found = connection.execute("SELECT fingerprint FROM authstate.refresh_claims ORDER BY number").fetchall()
    assert [row["fingerprint"] for row in found] == TOKENS[:2]
