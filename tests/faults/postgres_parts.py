"""What the tests with a PostgreSQL server share: a login, its issuer, and a database that tells each step."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import psycopg
from faults.stopped_holder import KEYS, SteppedDatabase

from authstate import AuthEngine, AuthState, ChatgptTokens, PostgresDatabase, RefreshSettings
from authstate.engine.model.secret import Secret
from authstate.engine.ports import RefreshedTokens
from authstate.testing import FakeAuthority, make_tokens

NO_WAITS = RefreshSettings(first_wait=0.0, rechecks=(0.0,), save_waits=(0.0,))


class AnsweringAuthority(FakeAuthority):
    """An issuer that calls a function once it has spent a token, before it answers."""

    on_answer: Callable[[], None] = staticmethod(lambda: None)

    async def refresh(self, refresh_token: Secret) -> RefreshedTokens:
        answer = await super().refresh(refresh_token)
        self.on_answer()
        return answer


class Login:
    """The account "alice", whose access token has expired."""

    def __init__(self) -> None:
        self.tokens = make_tokens(expires_in=-60.0)
        self.authority = AnsweringAuthority(self.tokens)

    async def store_in(self, database: PostgresDatabase) -> None:
        async with database.store("alice").locked() as held:
            await held.save(self.tokens)

    def engine(self, database: PostgresDatabase) -> AuthEngine:
        return AuthEngine(database.store("alice"), self.authority, settings=NO_WAITS)

    async def refresh(self, database: PostgresDatabase) -> None:
        async with self.engine(database) as engine:
            await engine.authorization()
            assert engine.session.state is AuthState.CHATGPT

    async def assert_refreshed_once(self, database: PostgresDatabase) -> None:
        """Check that the token was sent once, and that its answer is stored and the row is free."""
        assert self.authority.sent == [self.tokens.refresh_token.reveal()]
        stored = await database.store("alice").load()
        assert isinstance(stored, ChatgptTokens)
        assert self.authority.live == {stored.refresh_token.reveal()}
        async with database.store("alice").locked():
            pass


@asynccontextmanager
async def opened(url: str, reach: Callable[[str], None] = lambda step: None) -> AsyncIterator[SteppedDatabase]:
    """Open a database with one connection. `reach` is called with each step."""
    async with SteppedDatabase(url, KEYS, connections=1, listens=False) as database:
        database.reach = reach
        yield database


def give_up_claims(database: SteppedDatabase) -> Callable[[str], None]:
    """Return what lets a database soon give up a claim that is not answered, and no other statement."""
    patience = database._answer_within

    def reach(step: str) -> None:
        database._answer_within = 1.0 if step == "before claim" else patience

    return reach


def until_waiting(url: str) -> int:
    """Block until a statement waits for a lock. Returns the process of the server that runs it."""
    waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with psycopg.connect(url, autocommit=True) as connection:
        while (row := connection.execute(waiting).fetchone()) is None:
            pass
    pid: int = row[0]
    return pid


def let_the_hold_end(url: str) -> None:
    """Let the time of the holds of a database be over by its clock."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE authstate.accounts SET held_until = held_until - interval '1 hour'")
