"""PostgresDatabase: one PostgreSQL database that keeps the logins of many accounts."""

from authstate.adapters.postgres.connections import PostgresConnections
from authstate.adapters.postgres.lease_statements import SCHEMA_VERSION
from authstate.adapters.postgres.migrate import newer_message
from authstate.adapters.postgres.schema import VERSION
from authstate.adapters.postgres.store import PostgresStore
from authstate.engine.model.arguments import ensure_instance
from authstate.engine.model.errors import StoreUnavailable


class PostgresDatabase(PostgresConnections):
    """A database, as one event loop uses it. All stores of a process share one.

        async with PostgresDatabase("postgresql://app@db.example.com/logins", KeyFile("keys")) as database:
            async with AuthEngine(database.store("alice"), authority) as engine:
                authorization = await engine.authorization()

    See `PostgresConnections` for the arguments and errors.
    """

    async def ensure_usable(self) -> None:
        """Return if the database can be used, with the tables of this release and the first key.

        Whether the other keys are right, and whether one is missing, is found when something is read.

        Raises:
            StoreUnavailable: it cannot be used now, or its tables are of another release.
            StoreUnreadable: the keys cannot be read, or the first one is wrong.
        """
        row = await self.fetch(SCHEMA_VERSION, {})
        found = row["version"] if row is not None else 0
        if found > VERSION:
            raise StoreUnavailable(newer_message(self.place, found))
        if found < VERSION:
            raise StoreUnavailable(f"{self.place} has tables of an older release: run `authstate postgres migrate`")
        await self.logins.current_key()

    def store(self, account: str) -> PostgresStore:
        """Return the store of an account. It accesses nothing before its first use.

        Args:
            account: its id, see `PostgresStore`.

        Raises:
            ValueError: the id has another form.
            TypeError: it is no text.
        """
        ensure_instance(account, str, "account", "its id, a str")
        return PostgresStore(self, account)
