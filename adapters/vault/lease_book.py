"""The leases of a vault. The file holds digests of handles, never a handle.

Every process that shares the vault sees a lease that was made, or ended, within the time of one look at the file.
"""

import os
import time
from collections.abc import Callable
from secrets import token_bytes, token_hex

import msgspec

from authstate.adapters.config.home import ConfigError
from authstate.adapters.stores.disk import Disk
from authstate.adapters.vault.accounts_file import printable_name
from authstate.adapters.vault.json_file import JsonFile
from authstate.engine.machines.lease import Lease, LeaseState, LeaseTrigger
from authstate.engine.model.account import Account
from authstate.engine.model.lease_handle import SECRET_BYTES, LeaseHandle

_KEPT = 30 * 86_400.0  # seconds for which a lease that is over is still listed
_MOST = 10_000  # leases
Leases = tuple[Lease, ...]


class LeaseRequest(msgspec.Struct, frozen=True):
    """What a new lease is for."""

    account: str
    """The id of an account of the vault."""
    owner: Account
    """Who is signed in there."""
    ttl: float | None = None
    """Seconds. None: without an end."""
    label: str = ""
    is_of_home: bool = False


class LeaseBook:
    """The leases of a vault, or those of one process.

    Args:
        folder: the folder of the vault. None keeps the leases in memory, for a broker that ends with its process.
        now: seconds since the epoch.
    """

    def __init__(
        self, folder: str | None = None, *, now: Callable[[], float] = time.time, disk: Disk | None = None
    ) -> None:
        self._file = None if folder is None else JsonFile[Leases](os.path.join(folder, "leases.json"), Leases, (), disk)
        self._in_memory: Leases = ()
        self._now = now
        self._by_digest: dict[str, Lease] = {}
        self._indexed: Leases = ()

    def leases(self) -> Leases:
        """Return all leases as they are now, the oldest first; those that are over for at most 30 days.

        Raises StoreUnavailable, StoreUnreadable.
        """
        now = self._now()
        return tuple(lease.at(now) for lease in self._load())

    def find(self, handle: LeaseHandle) -> Lease | None:
        """Return the lease of a handle as it is now. None if it is unknown.

        Raises StoreUnavailable, StoreUnreadable.
        """
        leases = self._load()
        if leases is not self._indexed:
            self._by_digest = {lease.digest: lease for lease in leases}
            self._indexed = leases
        found = self._by_digest.get(handle.digest)
        return None if found is None else found.at(self._now())

    def make(self, request: LeaseRequest) -> tuple[Lease, LeaseHandle]:
        """Make a lease. Only the caller ever has its handle.

        Raises:
            ConfigError: there are too many leases.
            StoreUnavailable: it could not be recorded.
        """
        handle = LeaseHandle.of(token_bytes(SECRET_BYTES))
        now = self._now()
        lease = Lease(
            id=token_hex(4),
            digest=handle.digest,
            account=request.account,
            workspace_id=request.owner.account_id,
            user_id=request.owner.user_id,
            label=printable_name(request.label),
            created_at=now,
            expires_at=None if request.ttl is None else now + request.ttl,
            is_of_home=request.is_of_home,
        )
        self._change(lambda leases: (*_current(leases, now), lease))
        return lease, handle

    def end(self, lease_id: str) -> Lease:
        """End a lease. From here on it yields nothing. One that is over already is no error.

        Raises:
            ConfigError: there is no such lease.
            StoreUnavailable: that could not be recorded.
        """
        ended = [lease for lease in self._end(lambda lease: lease.id == lease_id) if lease.id == lease_id]
        if not ended:
            raise ConfigError(f"there is no lease {printable_name(lease_id)!r}: `authstate lease list` shows them")
        return ended[0]

    def end_all_of(self, account: str) -> None:
        """End every lease of an account of the vault. Raises StoreUnavailable."""
        if any(lease.account == account for lease in self._load()):
            self._end(lambda lease: lease.account == account)

    def _end(self, is_meant: Callable[[Lease], bool]) -> Leases:
        def ended(lease: Lease) -> Lease:
            is_over = lease.state is LeaseState.ENDED
            return lease.after(LeaseTrigger.END) if is_meant(lease) and not is_over else lease

        return self._change(lambda leases: tuple(map(ended, leases)))

    def _load(self) -> Leases:
        return self._in_memory if self._file is None else self._file.load()

    def _change(self, change: Callable[[Leases], Leases]) -> Leases:
        if self._file is not None:
            return self._file.change(change)
        self._in_memory = change(self._in_memory)
        return self._in_memory


def _current(leases: Leases, now: float) -> Leases:
    """Return the leases to keep: those that yield tokens, and those that were over only lately.

    Raises ConfigError if there are too many of them.
    """

    def is_kept(lease: Lease) -> bool:
        is_active = lease.at(now).state is LeaseState.ACTIVE
        return is_active or now - max(lease.created_at, lease.expires_at or 0.0) < _KEPT

    kept = tuple(filter(is_kept, leases))
    if len(kept) >= _MOST:
        raise ConfigError(
            f"there are {len(kept)} leases, and no more are possible: end some with `authstate lease end`"
        )
    return kept
