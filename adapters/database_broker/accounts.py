"""The accounts of a database, each with an engine that is opened when it is needed."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from authstate.adapters.broker.served_accounts import Health, Reading, ServedAccount
from authstate.adapters.config.home import ConfigError
from authstate.adapters.database_broker.connection_health import ConnectionHealth, DatabaseNews
from authstate.adapters.database_broker.owners import DatabaseOwners
from authstate.adapters.postgres import lease_statements
from authstate.adapters.postgres.database import PostgresDatabase
from authstate.adapters.postgres.store import PostgresStore
from authstate.adapters.vault.account_states import StoredAccount
from authstate.adapters.vault.accounts_file import AccountEntry, shown_name
from authstate.engine.engine import AuthEngine
from authstate.engine.model.errors import StoreUnavailable
from authstate.engine.pool import EnginePool

FOLLOWS_WITHIN = 1.0
"""Seconds that a client waits to hear whether another machine has changed a login. Then what is known counts."""


class DatabaseAccounts:
    """A `ServesAccounts`. The accounts have no nicknames, and none is selected.

    While the database cannot be used, the engines that are open go on with what they have.

    Args:
        database: has the accounts.
        pool: an engine for each id.
        health: of the database.
    """

    def __init__(self, database: PostgresDatabase, pool: EnginePool[str], health: ConnectionHealth) -> None:
        self._database = database
        self._health = health
        self._following: dict[str, asyncio.Task[object]] = {}
        self.pool = pool
        self.place: str = database.place
        self.owners: DatabaseOwners = DatabaseOwners(database)
        """Whose a refresh token is."""

    @property
    def fault(self) -> StoreUnavailable | None:
        """See `LendsEngines`."""
        return self._health.fault

    def how_to_sign_in(self, account: str) -> str:
        """See `LendsEngines`."""
        return f"sign in again with the program that stores logins in {self.place}"

    def home_of(self, account: str) -> None:
        """See `LendsEngines`. No home belongs to an account of a database."""

    async def update_lease_of_home(self) -> None:
        """See `LendsEngines`. There is none."""

    @asynccontextmanager
    async def engine(self, account: str) -> AsyncIterator[AuthEngine]:
        """See `LendsEngines`.

        Raises:
            ConfigError: this cannot be the id of an account.
            StoreUnavailable: the database cannot be used now, and the engine is not open.
        """
        self._store(account)
        if (fault := self._health.fault) is not None and not self.pool.is_open(account):
            raise fault.without_traceback()
        async with self.pool.engine(account) as engine:
            if self._health.fault is None:
                await self._follow(account, engine)
            yield engine

    async def _follow(self, account: str, engine: AuthEngine) -> None:
        """Apply what other machines did, if the database says so in time. All users of an engine share one look."""
        following = self._following.get(account)
        if following is None:
            following = self._following[account] = asyncio.create_task(engine.follow(adopt=True))
            following.add_done_callback(partial(self._has_followed, account))
        await asyncio.wait((following,), timeout=FOLLOWS_WITHIN)
        if not following.done():
            self._health.suspect()

    def _has_followed(self, account: str, following: "asyncio.Task[object]") -> None:
        self._following.pop(account, None)
        if not following.cancelled():
            following.exception()  # the engine was closed meanwhile

    async def find(self, name: str | None) -> ServedAccount:
        """See `ServesAccounts`."""
        if name is None:
            raise ConfigError(f"name an account: none is selected in {self.place}")
        store = self._store(name)
        if await self._database.fetch(lease_statements.HAS_ACCOUNT, {"account": name}) is None:
            raise ConfigError(f"there is no account {shown_name(name)} in {self.place}")
        return ServedAccount(AccountEntry(name, name), store.describe())

    async def names(self, accounts: Collection[str]) -> Mapping[str, str]:
        """See `ServesAccounts`. An account is named by its id."""
        return {account: account for account in accounts}

    async def listed(self) -> list[StoredAccount]:
        """See `ServesAccounts`."""
        raise ConfigError(f"the accounts in {self.place} are not listed, because there may be millions: name one")

    async def summary(self) -> Mapping[str, Any]:
        """See `ServesAccounts`."""
        return {"home": None, "database": self.place, "selectedAccountId": None, "accounts": None}

    async def health(self) -> Health:
        """See `ServesAccounts`. Without its database, a broker is of use as long as it has an open engine."""
        fault = await self._health.look()
        if fault is None:
            return Health()
        is_open = self.pool.metrics().open > 0
        what = "clients get access tokens that have not expired" if is_open else "clients get nothing"
        lost = f"lost {self._health.lost_for():.0f} s ago: {what}"
        return Health("degraded" if is_open else "unavailable", f"{fault} ({lost})")

    async def readings(self) -> list[Reading]:
        """See `ServesAccounts`."""
        fault = await self._health.look()
        return [
            Reading("authstate_database_available", "1 if the database can be used, else 0", float(fault is None)),
            Reading("authstate_database_lost_seconds", "Time since the database was lost", self._health.lost_for()),
        ]

    def news(self) -> DatabaseNews:
        """See `ServesAccounts`."""
        return DatabaseNews(self._health)

    def _store(self, account: str) -> PostgresStore:
        try:
            return self._database.store(account)
        except ValueError as error:
            raise ConfigError(f"{shown_name(account)} is no account: {error}") from None
