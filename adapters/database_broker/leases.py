"""The leases in a database, for any number of brokers. The table holds digests of handles, never a handle.

A broker keeps a lease that it has read for `KEPT` seconds, so a client that asks often costs one statement in that
time. A lease that was ended stops within that time everywhere, and at once where notifications are heard. While the
database cannot be asked, what was read last counts for `WITHOUT_DATABASE` seconds: no login is refreshed meanwhile, so
a client gets no other access token than it could have had before.

What the owner of a lease calls it, and who was signed in, is encrypted.
"""

import asyncio
import math
import secrets
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from functools import partial
from weakref import WeakSet

import msgspec

from authstate.adapters.config.home import ConfigError
from authstate.adapters.database_broker.connection_health import ConnectionHealth
from authstate.adapters.postgres import lease_statements
from authstate.adapters.postgres.connections import PostgresConnections, Row
from authstate.adapters.postgres.sealed_logins import SealedLogin, lease_column
from authstate.adapters.vault.accounts_file import printable_name, shown_name
from authstate.engine.machines.lease import Lease, LeaseRequest, LeaseState, LeaseTrigger
from authstate.engine.model.errors import StoreUnavailable, StoreUnreadable, strip_tracebacks_of_methods
from authstate.engine.model.lease_handle import SECRET_BYTES, LeaseHandle

KEPT = 5.0
"""Seconds for which a lease counts as it was read."""
WITHOUT_DATABASE = 3600.0
"""Seconds for which it counts while the database cannot be asked."""
READ_WITHIN = 1.0
"""Seconds that a client with a lease that was read before waits for the database. Then what was read counts."""
_OVER_FOR = 30 * 86_400.0  # seconds for which a lease that is over is still listed
_MOST_KEPT = 10_000
_MOST_LISTED = 10_000
_MOST_NEWS = 1000
_MOST_NAMED = 5


class _Details(msgspec.Struct, frozen=True):
    """What is encrypted of a lease."""

    workspace_id: str | None
    user_id: str | None
    label: str
    signs_out: bool = False


class _Kept(msgspec.Struct, frozen=True):
    """A lease as it was read. Both times are by `PostgresConnections.elapsed`."""

    lease: Lease
    read_at: float
    ends_at: float

    def at(self, elapsed: float) -> Lease:
        if self.lease.state is LeaseState.ACTIVE and elapsed >= self.ends_at:
            return self.lease.after(LeaseTrigger.EXPIRE)
        return self.lease


class LeaseNews:
    """A `WatchesLeases`: the leases that were made by this process, or are over and were in use here."""

    def __init__(self) -> None:
        self._leases: deque[Lease] = deque(maxlen=_MOST_NEWS)

    def add(self, lease: Lease) -> None:
        """Note a lease that is new or over."""
        self._leases.append(lease)

    async def look(self) -> list[Lease]:
        """See `WatchesLeases`."""
        found = list(self._leases)
        self._leases.clear()
        return found


@strip_tracebacks_of_methods
class DatabaseLeases:
    """The `Leases` of a database.

    Args:
        database: keeps the leases.
        health: of the database.
    """

    def __init__(self, database: PostgresConnections, health: ConnectionHealth) -> None:
        self._database = database
        self._health = health
        self._kept: OrderedDict[str, _Kept] = OrderedDict()  # by digest, the least recently read first
        self._digests: dict[str, str] = {}  # by id
        self._reading: dict[str, asyncio.Task[Lease | None]] = {}  # by digest
        self._ends_heard = 0
        self._watches: WeakSet[LeaseNews] = WeakSet()
        self._unsubscribe = database.changes.ended_leases.subscribe(self._on_ended)

    async def find(self, handle: LeaseHandle) -> Lease | None:
        """See `Leases`. Raises StoreUnreadable if what is stored was changed."""
        digest, elapsed = handle.digest, self._database.elapsed()
        kept = self._kept.get(digest)
        age = math.inf if kept is None else elapsed - kept.read_at
        if kept is not None and (age < KEPT or (self._health.fault is not None and age < WITHOUT_DATABASE)):
            return self._noted(digest, kept, elapsed)
        if (fault := self._health.fault) is not None:
            raise fault.without_traceback()
        reading = self._reading.get(digest)
        if reading is None:
            reading = self._reading[digest] = asyncio.create_task(self._read(digest))
            reading.add_done_callback(partial(self._has_read, digest))
        await asyncio.wait((reading,), timeout=READ_WITHIN)
        if _has_failed(reading):
            self._health.suspect()
            if kept is not None and age < WITHOUT_DATABASE:
                return self._noted(digest, kept, self._database.elapsed())
            if not reading.done() and (fault := await self._health.look()) is not None:
                raise fault.without_traceback()
        return await asyncio.shield(reading)

    def _has_read(self, digest: str, reading: "asyncio.Task[Lease | None]") -> None:
        self._reading.pop(digest, None)
        if not reading.cancelled():
            reading.exception()  # who waited for it has it

    async def _read(self, digest: str) -> Lease | None:
        heard, before = self._ends_heard, self._database.elapsed()
        row = await self._database.fetch(lease_statements.FIND, {"digest": digest})
        if row is None:
            self._forget(digest)
            return None
        lease = await self._lease(row)
        if lease.state is LeaseState.EXPIRED and row["state"] != LeaseState.EXPIRED:
            await self._database.fetch(lease_statements.EXPIRE, {"digest": digest})
        if heard != self._ends_heard:  # it may be the one that was ended meanwhile
            self._forget(digest)
            return lease
        kept = _Kept(lease, before, _end_of(row, before))
        self._keep(digest, kept)
        return lease

    async def make(self, request: LeaseRequest) -> tuple[Lease, LeaseHandle]:
        """See `Leases`."""
        if request.ttl is not None and not 0 < request.ttl < math.inf:
            raise ConfigError("the time of a lease must be longer than 0 seconds, and finite")
        handle = LeaseHandle.of(secrets.token_bytes(SECRET_BYTES))
        owner = request.owner
        details = _Details(owner.account_id, owner.user_id, printable_name(request.label), request.signs_out)
        sealed = await self._database.logins.seal(
            request.account, msgspec.json.encode(details), lease_column(handle.digest)
        )
        values = {
            "digest": handle.digest,
            "id": secrets.token_hex(8),
            "account": request.account,
            "key_id": sealed.key_id,
            "details": sealed.data,
            "ttl": request.ttl,
            "kept": _OVER_FOR,
        }
        row = await self._database.fetch(lease_statements.MAKE, values)
        assert row is not None
        lease = await self._lease(row)
        self._tell(lease)
        return lease, handle

    async def end(self, lease_id: str) -> Lease:
        """See `Leases`. Raises StoreUnreadable if what is stored was changed: the lease is over all the same."""
        row = await self._database.fetch(lease_statements.END, {"id": lease_id})
        if row is None:
            # What was sent may be the handle of a lease, which `shown_name` hides.
            raise ConfigError(f"there is no lease {shown_name(lease_id)} in {self._database.place}")
        [lease] = await self._ended([row])
        return lease

    async def listed(self, account: str | None = None) -> tuple[Lease, ...]:
        """See `Leases`. At most 10,000."""
        values = {"account": self._named(account), "most": _MOST_LISTED}
        return tuple([await self._lease(row) for row in await self._database.fetch_all(lease_statements.LIST, values)])

    async def end_all(self, account: str | None = None) -> tuple[Lease, ...]:
        """See `Leases`. Raises StoreUnreadable if one cannot be read: all of them are over all the same."""
        return await self._ended(
            await self._database.fetch_all(lease_statements.END_ALL, {"account": self._named(account)})
        )

    async def count(self) -> None:
        """See `Leases`."""

    def watch(self) -> LeaseNews:
        """See `Leases`. It notices leases that were made here, and the ends of those that were in use here."""
        watch = LeaseNews()
        self._watches.add(watch)
        return watch

    def close(self) -> None:
        """Hear of no more ended leases, and ask no more."""
        self._unsubscribe()
        for reading in self._reading.values():
            reading.cancel()

    def _named(self, account: str | None) -> str:
        if account is None:
            raise ConfigError(f"name an account: {self._database.place} may have millions of leases")
        return account

    async def _lease(self, row: Row) -> Lease:
        """Return the lease of a row, as it is by the clock of the database. Raises StoreUnreadable."""
        sealed = SealedLogin(row["key_id"], bytes(row["details"]))
        data = await self._database.logins.unseal(row["account"], sealed, lease_column(row["digest"]))
        try:
            details, state = msgspec.json.decode(data, type=_Details), LeaseState(row["state"])
        except ValueError:
            raise StoreUnreadable(
                f"the lease {row['id']} in {self._database.place} was written by another release: update authstate here"
            ) from None
        lease = Lease(
            row["id"],
            row["digest"],
            row["account"],
            details.workspace_id,
            details.user_id,
            details.label,
            row["created_at"],
            row["expires_at"],
            state,
            signs_out=details.signs_out,
        )
        is_over = state is LeaseState.ACTIVE and row["left_seconds"] is not None and row["left_seconds"] <= 0
        return lease.after(LeaseTrigger.EXPIRE) if is_over else lease

    async def _ended(self, rows: Sequence[Row]) -> tuple[Lease, ...]:
        """Note that leases were ended by this process. Raises StoreUnreadable, once all are noted."""
        ended: list[Lease] = []
        unreadable: dict[str, StoreUnreadable] = {}
        for row in rows:
            self._forget(row["digest"])
            self._ends_heard += 1
            try:
                lease = msgspec.structs.replace(await self._lease(row), state=LeaseState.ENDED)
            except StoreUnreadable as error:
                unreadable[row["id"]] = error
                continue
            self._tell(lease)
            ended.append(lease)
        if unreadable:
            raise StoreUnreadable(_over_but_unreadable(len(ended), unreadable))
        return tuple(ended)

    def _on_ended(self, lease_id: str) -> None:
        """Note that some process has ended a lease."""
        self._ends_heard += 1
        digest = self._digests.get(lease_id)
        kept = self._forget(digest) if digest is not None else None
        if kept is not None and kept.lease.state is LeaseState.ACTIVE:
            self._tell(kept.lease.after(LeaseTrigger.END))

    def _keep(self, digest: str, kept: _Kept) -> None:
        before = self._forget(digest)
        self._kept[digest] = kept
        self._digests[kept.lease.id] = digest
        if before is not None and before.lease.state is LeaseState.ACTIVE is not kept.lease.state:
            self._tell(kept.lease)
        if len(self._kept) > _MOST_KEPT:
            self._forget(next(iter(self._kept)))

    def _noted(self, digest: str, kept: _Kept, elapsed: float) -> Lease:
        """Return a lease that is kept as it is now, and tell if its time is over since."""
        lease = kept.at(elapsed)
        if lease is not kept.lease:
            self._keep(digest, msgspec.structs.replace(kept, lease=lease))
        return lease

    def _forget(self, digest: str) -> _Kept | None:
        kept = self._kept.pop(digest, None)
        if kept is not None:
            self._digests.pop(kept.lease.id, None)
        return kept

    def _tell(self, lease: Lease) -> None:
        for watch in self._watches:
            watch.add(lease)


def _over_but_unreadable(readable: int, unreadable: Mapping[str, StoreUnreadable]) -> str:
    """Say which leases were ended although they cannot be read, and why the first of them cannot."""
    names = ", ".join(list(unreadable)[:_MOST_NAMED]) + ("" if len(unreadable) <= _MOST_NAMED else ", ...")
    over = f"the lease {names} is over" if len(unreadable) == 1 else f"the leases {names} are over"
    others = f", and so are {readable} others" if readable else ""
    return f"{over}{others}. What is stored of {'it' if len(unreadable) == 1 else 'them'} cannot be read: " + str(
        next(iter(unreadable.values()))
    )


def _has_failed(reading: "asyncio.Task[Lease | None]") -> bool:
    """Whether the database may be lost: it has not answered yet, or cannot be asked. What cannot be decrypted is no
    such case.
    """
    if not reading.done() or reading.cancelled():
        return True
    fault = reading.exception()
    return isinstance(fault, StoreUnavailable) and not isinstance(fault, StoreUnreadable)


def _end_of(row: Row, before: float) -> float:
    return math.inf if row["left_seconds"] is None else before + float(row["left_seconds"])
