"""What a broker shows and reports of its accounts, wherever they are kept."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from authstate.adapters.broker.lends_engines import LendsEngines
from authstate.adapters.vault.account_states import StoredAccount
from authstate.adapters.vault.accounts_file import AccountEntry
from authstate.engine.machines.lease import Lease
from authstate.engine.pool import EnginePool


class ServedAccount(msgspec.Struct, frozen=True):
    """One account of a broker."""

    entry: AccountEntry
    store: str
    """The place of its login."""
    is_selected: bool = False
    """Whether it is used where no account is named."""


class Health(msgspec.Struct, frozen=True):
    """Whether a broker can do its work."""

    status: str = "ok"
    """`ok`; `degraded`: clients get access tokens that have not expired; `unavailable`: clients get nothing."""
    reason: str | None = None
    """For a person, if it is not `ok`."""

    @property
    def serves(self) -> bool:
        """Whether it is of use to send clients here."""
        return self.status != "unavailable"


class Reading(msgspec.Struct, frozen=True):
    """The values of one metric."""

    name: str
    help: str
    value: float


class NewsLine(msgspec.Struct, frozen=True):
    """A line for the log of a broker."""

    event: str
    members: Mapping[str, object]
    is_warning: bool = False


class ReportsNews(Protocol):
    """Notices what other processes, or the place of the accounts, did."""

    async def look(self, changed: Sequence[Lease]) -> list[NewsLine]:
        """Return what happened since the last look. Raises nothing.

        Args:
            changed: the leases that are new or over since then.
        """
        ...


class ServesAccounts(LendsEngines, Protocol):
    """The accounts of a broker, for whoever runs it."""

    place: str
    """Where the accounts are: a folder, or the name of a database. Clients compare it with what they expect."""
    pool: EnginePool[str]
    """The engines."""

    async def find(self, name: str | None) -> ServedAccount:
        """Return the account with a nickname or an id, or the selected one.

        Raises:
            ConfigError: there is no such account, or none is named and none is selected.
            StoreUnavailable: it cannot be looked for now.
        """
        ...

    async def names(self, accounts: Collection[str]) -> Mapping[str, str]:
        """Return the nicknames of ids. One that is unknown is left out. Raises StoreUnavailable."""
        ...

    async def listed(self) -> list[StoredAccount]:
        """Return all accounts as they are stored. Opens no engine.

        Raises:
            ConfigError: there may be too many of them.
            StoreUnavailable: they cannot be read now.
        """
        ...

    async def summary(self) -> Mapping[str, Any]:
        """Return the members that `GET /v1/state` has of the accounts. Raises StoreUnavailable."""
        ...

    async def health(self) -> Health:
        """Return whether the accounts can be used. Raises nothing."""
        ...

    async def readings(self) -> list[Reading]:
        """Return the values of metrics. Raises nothing."""
        ...

    def news(self) -> ReportsNews:
        """Return what notices news from now on."""
        ...
