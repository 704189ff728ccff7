"""Brokers of one database, as machines behind a load balancer are."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from authstate import EncryptionKeys, PostgresDatabase
from authstate.adapters.broker.broker import Broker
from authstate.adapters.broker.token_grants import Grant, PresentedToken
from authstate.adapters.config import Config, Environment
from authstate.adapters.database_broker.open_broker import open_database_broker
from authstate.engine.model.credentials import ChatgptTokens, Credentials
from authstate.engine.model.secret import Secret
from authstate.testing import FakeAuthority


class CountingDatabase(PostgresDatabase):
    """Counts its statements."""

    statements: int = 0

    async def _fetch_all_once(self, statement: str, values: object) -> object:  # type: ignore[override]
        self.statements += 1
        return await super()._fetch_all_once(statement, values)  # type: ignore[arg-type]


class Machine:
    """One machine with a broker."""

    def __init__(self, database: CountingDatabase, broker: Broker) -> None:
        self.database = database
        self.broker = broker

    async def ask(self, presented: Secret, *, is_refused: bool = True) -> Grant:
        """Ask its token endpoint. Raises OAuthRefusal."""
        return await self.broker.grants.refresh(PresentedToken(presented, access_was_refused=is_refused))


@asynccontextmanager
async def machine(url: str, keys: EncryptionKeys, authority: FakeAuthority, folder: Path) -> AsyncIterator[Machine]:
    """Run a broker on a database."""
    environment = Environment.read({"CODEX_HOME": str(folder)})
    async with (
        CountingDatabase(url, keys, connections=3) as database,
        open_database_broker(database, Config(), environment, authority=authority) as broker,
    ):
        yield Machine(database, broker)


async def sign_in(database: PostgresDatabase, authority: FakeAuthority, account: str = "alice") -> ChatgptTokens:
    """Store a new login, as another program does."""
    tokens = authority.issue()
    await store(database, tokens, account)
    return tokens


async def store(database: PostgresDatabase, credentials: Credentials, account: str = "alice") -> None:
    """Store a login."""
    async with database.store(account).locked() as held:
        await held.save(credentials)


async def stored(database: PostgresDatabase, account: str = "alice") -> ChatgptTokens:
    """What is stored."""
    found = await database.store(account).load()
    assert isinstance(found, ChatgptTokens)
    return found
