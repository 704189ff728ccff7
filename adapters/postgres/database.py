"""PostgresDatabase: one PostgreSQL database that keeps the logins of many accounts."""

from authstate.adapters.postgres.connections import PostgresConnections
from authstate.adapters.postgres.store import PostgresStore


class PostgresDatabase(PostgresConnections):
    """A database, as one event loop uses it. All stores of a process share one.

        async with PostgresDatabase("postgresql://app@db.example.com/logins", KeyFile("keys")) as database:
            async with AuthEngine(database.store("alice"), authority) as engine:
                authorization = await engine.authorization()

    See `PostgresConnections` for the arguments and errors.
    """

    def store(self, account: str) -> PostgresStore:
        """Return the store of an account. It accesses nothing before its first use.

        Args:
            account: its id, see `PostgresStore`.

        Raises:
            ValueError: the id has another form.
        """
        return PostgresStore(self, account)
