"""Creates the broker of a database. Any number of them serve one database, behind any load balancer."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from authstate.adapters.assembly import EngineOptions, build_engine, open_authority
from authstate.adapters.broker.account_events import AccountEvents
from authstate.adapters.broker.broker import Broker
from authstate.adapters.config import Config, Environment
from authstate.adapters.database_broker.accounts import DatabaseAccounts
from authstate.adapters.database_broker.connection_health import ConnectionHealth
from authstate.adapters.database_broker.leases import DatabaseLeases
from authstate.adapters.postgres.database import PostgresDatabase
from authstate.engine.clock import SystemClock
from authstate.engine.engine import AuthEngine
from authstate.engine.pool import EnginePool, PoolSettings
from authstate.engine.ports import Clock, TokenAuthority


@asynccontextmanager
async def open_database_broker(
    database: PostgresDatabase,
    config: Config,
    environment: Environment,
    *,
    authority: TokenAuthority | None = None,
    clock: Clock | None = None,
    settings: PoolSettings | None = None,
) -> AsyncIterator[Broker]:
    """Open a broker of the accounts and leases of a database. Leaving the context closes its engines.

    Args:
        database: it is not closed with the broker.
        config: the policy holds for every account; where logins are stored, and which is selected, counts for nothing.
        environment: where the issuer is, and how it is reached.
        authority: the issuer, instead of the configured one.
        clock: by default the real one.
        settings: how many engines are kept open.

    Raises:
        StoreUnavailable: the database cannot be used now, or its tables are of another release.
        StoreUnreadable: an encryption key is missing or wrong.
    """
    await database.ensure_usable()
    clock = clock or SystemClock()
    issuer = authority or open_authority(environment)
    options: EngineOptions = {"clock": clock, "api_key": None}
    events = AccountEvents()

    def open_account(account: str) -> AuthEngine:
        engine = build_engine(
            config, environment, store=database.store(account), authority=issuer, keeps_journal=False, **options
        )
        events.follow(account, engine)
        return engine

    health = ConnectionHealth(database, clock)
    leases = DatabaseLeases(database, health)
    pool = EnginePool(open_account, clock=clock, settings=settings)
    try:
        async with Broker(DatabaseAccounts(database, pool, health), leases, issuer, clock, events) as broker:
            yield broker
    finally:
        leases.close()
        await health.close()
