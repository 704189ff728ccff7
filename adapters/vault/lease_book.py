"""The leases of a vault. The file holds digests of handles, never a handle.

Every process that shares the vault sees a lease that was made, or ended, within the time of one look at the file.

A lease is over when the wall clock says so, or when its time has passed by the monotonic clock since this process first
saw it. So a wall clock that is set back prolongs no lease. A lease that was found to be over is recorded as expired, so
that it does not come back to life in another process, or after a restart.
"""

import math
import os
import re
import secrets
import time
from collections.abc import Callable
from contextlib import suppress

from authstate.adapters.config.home import ConfigError
from authstate.adapters.stores.disk import Disk
from authstate.adapters.vault.accounts_file import HOME_ACCOUNT, printable_name
from authstate.adapters.vault.json_file import JsonFile
from authstate.engine.machines.lease import Lease, LeaseRequest, LeaseState, LeaseTrigger
from authstate.engine.model.account import Account
from authstate.engine.model.errors import StoreUnavailable
from authstate.engine.model.lease_handle import SECRET_BYTES, LeaseHandle

_KEPT = 30 * 86_400.0  # seconds for which a lease that is over is still listed
_MOST = 10_000  # leases
_ID = re.compile(r"[0-9a-f]{8}")
Leases = tuple[Lease, ...]


def lease_of_home(owner: Account) -> LeaseRequest:
    """Return the request for the lease that stands in the home whose login the vault took over."""
    return LeaseRequest(HOME_ACCOUNT, owner, label="the home", is_of_home=True, signs_out=True)


class LeaseBook:
    """The leases of a vault, or those of one process.

    Args:
        folder: the folder of the vault. None keeps the leases in memory, for a broker that ends with its process.
        now: seconds since the epoch.
        monotonic: seconds from an arbitrary start, by a clock that never jumps.
        disk: reads and writes the file.
    """

    def __init__(
        self,
        folder: str | None = None,
        *,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        disk: Disk | None = None,
    ) -> None:
        self._file = None if folder is None else JsonFile[Leases](os.path.join(folder, "leases.json"), Leases, (), disk)
        self._in_memory: Leases = ()
        self._now = now
        self._monotonic = monotonic
        self._by_digest: dict[str, Lease] = {}
        self._indexed: Leases = ()
        self._ends: dict[str, float] = {}  # by digest: when a lease is over at the latest, by the monotonic clock
        self._recorded: set[str] = set()  # digests of expired leases that this process has tried to record

    def leases(self) -> Leases:
        """Return all leases as they are now, the oldest first; those that are over for at most 30 days.

        Raises StoreUnavailable, StoreUnreadable.
        """
        leases = tuple(map(self._as_now, self._load()))
        self._record_expired(leases)
        return leases

    def find(self, handle: LeaseHandle) -> Lease | None:
        """Return the lease of a handle as it is now. None if it is unknown.

        Raises StoreUnavailable, StoreUnreadable.
        """
        leases = self._load()
        if leases is not self._indexed:
            self._by_digest = {lease.digest: lease for lease in leases}
            self._indexed = leases
        stored = self._by_digest.get(handle.digest)
        if stored is None:
            return None
        lease = self._as_now(stored)
        if lease is not stored:
            self._record_expired((lease,))
        return lease

    def make(self, request: LeaseRequest) -> tuple[Lease, LeaseHandle]:
        """Make a lease. Only the caller ever has its handle.

        Raises:
            ConfigError: its time is not a positive number of seconds, or there are too many leases.
            StoreUnavailable: it could not be recorded.
        """
        if request.ttl is not None and not 0 < request.ttl < math.inf:
            raise ConfigError("the time of a lease must be longer than 0 seconds, and finite")
        handle = LeaseHandle.of(secrets.token_bytes(SECRET_BYTES))
        now = self._now()
        lease = Lease(
            id=secrets.token_hex(4),
            digest=handle.digest,
            account=request.account,
            workspace_id=request.owner.account_id,
            user_id=request.owner.user_id,
            label=printable_name(request.label),
            created_at=now,
            expires_at=None if request.ttl is None else now + request.ttl,
            is_of_home=request.is_of_home,
            signs_out=request.signs_out,
        )
        lease = self._change(lambda leases: _with_lease(leases, lease, now))[-1]
        return self._as_now(lease), handle

    def end(self, lease_id: str) -> Lease:
        """End a lease. From here on it yields nothing. One that is over already is no error.

        Raises:
            ConfigError: there is no such lease.
            StoreUnavailable: that could not be recorded.
        """
        ended = [lease for lease in self._end(lambda lease: lease.id == lease_id) if lease.id == lease_id]
        if not ended:
            # What was sent may be the handle of a lease. It is not repeated, not even in part.
            what = f"there is no lease {lease_id}" if _ID.fullmatch(lease_id) else "this is no id of a lease"
            raise ConfigError(f"{what}: `authstate lease list` shows the ids")
        return ended[0]

    def end_all(self, account: str | None = None) -> Leases:
        """End every lease but that of an adopted home, which would lose its login. Returns those that were active.

        Args:
            account: end those of this account only.

        Raises StoreUnavailable.
        """
        active = {
            lease.id
            for lease in self.leases()
            if lease.state is LeaseState.ACTIVE and not lease.is_of_home and account in (None, lease.account)
        }
        ended = self._end(lambda lease: lease.id in active) if active else ()
        return tuple(lease for lease in ended if lease.id in active)

    def end_all_of(self, account: str) -> None:
        """End every lease of an account of the vault. Raises StoreUnavailable."""
        self._end_if_any(lambda lease: lease.account == account)

    def end_of_home(self, besides: LeaseHandle | None = None) -> None:
        """End the leases that stood in the home, but for the one that stands there now. Raises StoreUnavailable."""
        digest = None if besides is None else besides.digest
        self._end_if_any(lambda lease: lease.is_of_home and lease.digest != digest)

    def _end_if_any(self, is_meant: Callable[[Lease], bool]) -> None:
        if any(lease.state is not LeaseState.ENDED and is_meant(lease) for lease in self._load()):
            self._end(is_meant)

    def _end(self, is_meant: Callable[[Lease], bool]) -> Leases:
        def ended(lease: Lease) -> Lease:
            is_over = lease.state is LeaseState.ENDED
            return lease.after(LeaseTrigger.END) if is_meant(lease) and not is_over else lease

        return self._change(lambda leases: tuple(map(ended, leases)))

    def _as_now(self, lease: Lease) -> Lease:
        """Return the lease as it is now, by both clocks. One that was over once stays over."""
        if lease.state is not LeaseState.ACTIVE or lease.expires_at is None:
            return lease
        now, monotonic = self._now(), self._monotonic()
        if lease.digest not in self._ends:
            left = min(lease.expires_at - now, lease.expires_at - lease.created_at)
            self._ends[lease.digest] = monotonic + left
        if now >= lease.expires_at:
            self._ends[lease.digest] = min(self._ends[lease.digest], monotonic)
        return lease.after(LeaseTrigger.EXPIRE) if monotonic >= self._ends[lease.digest] else lease

    def _record_expired(self, leases: Leases) -> None:
        """Record leases that were found to be over. Tried once for each: what this process knows does not depend on it.

        Every later change of the file records them as well.
        """
        new = {lease.digest for lease in leases if lease.state is LeaseState.EXPIRED} - self._recorded
        stored = {lease.digest for lease in self._load() if lease.state is LeaseState.ACTIVE}
        self._recorded |= new
        if new & stored:
            with suppress(StoreUnavailable):
                self._change(lambda leases: leases, within=0.0)

    def _load(self) -> Leases:
        leases = self._in_memory if self._file is None else self._file.load()
        if len(self._ends) > 2 * len(leases) + 64:  # most of them were dropped from the file
            kept = {lease.digest for lease in leases}
            self._ends = {digest: end for digest, end in self._ends.items() if digest in kept}
            self._recorded &= kept
        return leases

    def _change(self, change: Callable[[Leases], Leases], within: float | None = None) -> Leases:
        def change_now(leases: Leases) -> Leases:
            return change(tuple(map(self._as_now, leases)))

        if self._file is not None:
            return self._file.change(change_now, within=within)
        self._in_memory = change_now(self._in_memory)
        return self._in_memory


def _with_lease(leases: Leases, lease: Lease, now: float) -> Leases:
    """Return the leases and a new one, without those that have been over for long.

    Raises ConfigError if too many of them are not over.
    """
    kept = [one for one in leases if one.state is LeaseState.ACTIVE or now - _last_moment(one) < _KEPT]
    surplus = len(kept) - _MOST + 1
    if surplus > 0:  # those that are over go first, the oldest of them before the others
        over = [one for one in kept if one.state is not LeaseState.ACTIVE][:surplus]
        if len(over) < surplus:
            raise ConfigError(
                f"there are {len(kept)} leases, and no more are possible: end some with `authstate lease end`"
            )
        dropped = {one.digest for one in over}
        kept = [one for one in kept if one.digest not in dropped]
    return (*kept, lease)


def _last_moment(lease: Lease) -> float:
    """Return the last time at which a lease that is over may have been in use."""
    return max(lease.created_at, lease.expires_at or 0.0)
