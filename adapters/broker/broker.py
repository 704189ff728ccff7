"""A broker, whichever way it is reached: an engine for each account, the leases, and the token grants."""

from types import TracebackType
from typing import Self

from authstate.adapters.assembly import EngineOptions, build_engine, open_authority
from authstate.adapters.broker.account_events import AccountEvents
from authstate.adapters.broker.broker_accounts import BrokerAccounts
from authstate.adapters.broker.leases import BookLeases, Leases
from authstate.adapters.broker.served_accounts import ServesAccounts
from authstate.adapters.broker.token_grants import TokenGrants
from authstate.adapters.config import Config, ConfigError, Environment, StoreMode
from authstate.adapters.vault.lease_book import LeaseBook
from authstate.adapters.vault.vault import Vault
from authstate.engine.clock import SystemClock
from authstate.engine.engine import AuthEngine
from authstate.engine.pool import EnginePool
from authstate.engine.ports import Clock, TokenAuthority


class Broker:
    """Owns the engines of accounts. Use it as an async context manager, or close it.

    Args:
        accounts: the accounts and their engines: those of a vault, or of a database.
        leases: who may get access tokens with a handle.
        authority: the issuer, for all accounts.
        clock: for the bounds on requests.
        events: of the engines.
    """

    def __init__(
        self,
        accounts: ServesAccounts,
        leases: Leases,
        authority: TokenAuthority,
        clock: Clock,
        events: AccountEvents | None = None,
    ) -> None:
        self.accounts: ServesAccounts = accounts
        self.leases: Leases = leases
        self.grants: TokenGrants = TokenGrants(accounts, leases, authority, clock)
        """Answers the OAuth endpoints."""
        self.clock = clock
        self.events: AccountEvents = events or AccountEvents()
        """The events of all engines."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self, grace: float = 30.0) -> None:
        """Close all engines. Waits, at most `grace` seconds, for refresh tokens that are being spent. Cancelling the
        caller cancels no refresh.
        """
        await self.accounts.pool.close(grace)


def open_broker(
    config: Config, environment: Environment, *, leases: LeaseBook | None = None, clock: Clock | None = None
) -> Broker:
    """Create the broker of a home. It reads and writes nothing before it is used.

    Args:
        config: the settings of config.toml. The policy holds for every account.
        environment: the settings in environment variables.
        leases: by default those of the vault, which all its brokers share.
        clock: by default the real one.

    Raises:
        ConfigError: credentials are kept in memory, where there is no vault.
    """
    if config.store_mode is StoreMode.EPHEMERAL:
        raise ConfigError(
            'cli_auth_credentials_store = "ephemeral" keeps the login in the memory of one process, so there is '
            "nothing that a broker could share: use another store"
        )
    clock = clock or SystemClock()
    vault = Vault(environment.home, config.store_mode, clock)
    authority = open_authority(environment)
    # `CODEX_API_KEY` is for the process that has it, and says nothing about the accounts.
    options: EngineOptions = {"clock": clock, "api_key": None}

    events = AccountEvents()

    def open_account(account: str) -> AuthEngine:
        engine = build_engine(config, environment, store=vault.store(account), authority=authority, **options)
        events.follow(account, engine)
        return engine

    book = leases or LeaseBook(vault.folder, now=clock.now, monotonic=clock.monotonic)
    accounts = BrokerAccounts(vault, EnginePool(open_account, clock=clock), book)
    return Broker(accounts, BookLeases(book), authority, clock, events)
