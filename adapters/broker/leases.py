"""What a broker needs of leases, wherever they are kept, and the leases of a vault."""

from collections import Counter
from collections.abc import Mapping
from typing import Protocol

from authstate.adapters.broker.lease_changes import LeaseChanges
from authstate.adapters.vault.lease_book import LeaseBook
from authstate.engine.machines.lease import Lease, LeaseRequest
from authstate.engine.model.lease_handle import LeaseHandle


class WatchesLeases(Protocol):
    """Notices what becomes of leases: see `Leases.watch`."""

    async def look(self) -> list[Lease]:
        """Return the leases that are new or over since the last look, as they are now. Raises nothing."""
        ...


class Leases(Protocol):
    """Who may get access tokens from a broker with a handle.

    All methods may be cancelled. A lease whose making was cancelled may exist, and nobody has its handle. Every method
    raises StoreUnavailable if the leases cannot be read or written now.
    """

    async def find(self, handle: LeaseHandle) -> Lease | None:
        """Return the lease of a handle as it is now. None if it is unknown."""
        ...

    async def make(self, request: LeaseRequest) -> tuple[Lease, LeaseHandle]:
        """Make a lease. Only the caller ever has its handle.

        Raises:
            ConfigError: its time is not a positive number of seconds, or there are too many leases.
        """
        ...

    async def end(self, lease_id: str) -> Lease:
        """End a lease, and return it. One that is over already is no error.

        Raises:
            ConfigError: there is no such lease.
        """
        ...

    async def listed(self, account: str | None = None) -> tuple[Lease, ...]:
        """Return the leases of an account, or all of them: the oldest first, those that are over for 30 days.

        Raises:
            ConfigError: no account is named, and there are too many leases to list all.
        """
        ...

    async def end_all(self, account: str | None = None) -> tuple[Lease, ...]:
        """End every lease of an account, or all, but that of an adopted home. Returns those that were active.

        Raises:
            ConfigError: no account is named, and it must be.
        """
        ...

    async def count(self) -> Mapping[tuple[str, str], int] | None:
        """Return the number of leases by account and state. None where there may be too many to count them."""
        ...

    def watch(self) -> WatchesLeases:
        """Return what notices changes from now on. It ends when nobody has it any more."""
        ...


class BookLeases:
    """The leases of a vault, or those of one process: see `LeaseBook`. Its methods block briefly.

    Args:
        book: the leases.
    """

    def __init__(self, book: LeaseBook) -> None:
        self._book = book

    async def find(self, handle: LeaseHandle) -> Lease | None:
        """See `Leases`."""
        return self._book.find(handle)

    async def make(self, request: LeaseRequest) -> tuple[Lease, LeaseHandle]:
        """See `Leases`."""
        return self._book.make(request)

    async def end(self, lease_id: str) -> Lease:
        """See `Leases`."""
        return self._book.end(lease_id)

    async def listed(self, account: str | None = None) -> tuple[Lease, ...]:
        """See `Leases`."""
        return tuple(lease for lease in self._book.leases() if account in (None, lease.account))

    async def end_all(self, account: str | None = None) -> tuple[Lease, ...]:
        """See `Leases`."""
        return self._book.end_all(account)

    async def count(self) -> Mapping[tuple[str, str], int]:
        """See `Leases`."""
        return Counter((lease.account, str(lease.state)) for lease in self._book.leases())

    def watch(self) -> LeaseChanges:
        """See `Leases`."""
        return LeaseChanges(self._book)
