"""The login of one account in a PostgreSQL database that any number of machines share.

A row that a process holds is held by nobody else, on any machine (hold.py). No connection is kept and no transaction is
open meanwhile, so a holder may ask the issuer for as long as that takes.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final, NamedTuple, TypeVar

from authstate.adapters.postgres import statements
from authstate.adapters.postgres.connections import PostgresConnections, Row
from authstate.adapters.postgres.held_row import HeldRow, read_login
from authstate.adapters.postgres.hold import DEFAULT_TIMES, Hold, HoldTimes, Writer
from authstate.adapters.postgres.rows import claim_from
from authstate.adapters.stores.auth_json_format import decode
from authstate.adapters.stores.off_loop import completed
from authstate.engine.machines.refresh_claim import RefreshClaim, format_time
from authstate.engine.model.credentials import Credentials
from authstate.engine.model.errors import StoreBusy, StoreUnavailable, strip_tracebacks_of_methods
from authstate.engine.ports import HeldStore, LastChange

_ACCOUNT: Final = re.compile(r"[A-Za-z0-9._:/+-]{1,200}")
_LONGEST_WAIT: Final = 1.0  # seconds until a waiter asks again by itself
_FIRST_WAIT: Final = 0.05
T = TypeVar("T")


class Taken(NamedTuple):
    """A hold, and the row as it was then."""

    hold: Hold
    row: Row


async def _find_nothing() -> None:
    return None


@strip_tracebacks_of_methods
class PostgresStore:
    """A `CredentialStore` in PostgreSQL. `PostgresDatabase.store` makes one.

    Args:
        database: where the row is.
        account: its id: 1 to 200 letters, digits and `._:/+-`. It is not encrypted, so it must not be an email address.
        lock_timeout: seconds to wait until another process has done with the row. A process that ended in the middle of
            a refresh keeps it for `times.claim` plus `times.margin`, which is 65 seconds.
        times: how long a row is held.

    Raises:
        ValueError: the id has another form.
    """

    def __init__(
        self,
        database: PostgresConnections,
        account: str,
        *,
        lock_timeout: float = 70.0,
        times: HoldTimes = DEFAULT_TIMES,
    ) -> None:
        if not _ACCOUNT.fullmatch(account):
            raise ValueError(
                "the id of an account has 1 to 200 letters, digits and ._:/+- (no email address: ids are not encrypted)"
            )
        self.account = account
        self._database = database
        self._lock_timeout = lock_timeout
        self._times = times
        self._watched = database.changes.watched(account)
        self._writer: Writer | None = None
        """Who may hold the row still, and takes it next. None: a new one, which no fork of this process has, too."""

    def describe(self) -> str:
        """Return the place, for a person."""
        return f"account {self.account} in {self._database.place}"

    async def load(self) -> Credentials | None:
        """See `CredentialStore`."""
        row = await self._database.fetch(statements.LOAD, {"account": self.account})
        self._watched.read(row)
        content = await read_login(self._database, self.account, row)
        return None if content is None else decode(content, self.describe()).credentials

    async def claim_on(self, fingerprint: str) -> RefreshClaim | None:
        """See `CredentialStore`."""
        wanted = {"account": self.account, "fingerprint": fingerprint}
        row = await self._database.fetch(statements.FIND_CLAIM, wanted)
        return claim_from(row) if row is not None else None

    def revision(self) -> object:
        """See `HasRevision`. It changes when a change by another process is known: see changes.py."""
        return self._database.changes.revision(self._watched)

    async def last_change(self) -> LastChange | None:
        """See `ReportsLastChange`."""
        row = await self._database.fetch(statements.LAST_CHANGE, {"account": self.account})
        if row is None:
            return None
        message = f"{self.describe()} was last changed by {row['changed_by']} at {format_time(row['at'])}."
        return LastChange(message, is_foreign=False)

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[HeldStore]:
        """See `CredentialStore`. The lock ends by itself; see `HoldTimes`."""
        async with self.locked_unless(_find_nothing) as held:
            yield held

    @asynccontextmanager
    async def locked_unless(self, find: Callable[[], Awaitable[T | None]]) -> AsyncIterator[HeldStore | T]:
        """See `LocksUnless`."""
        taken = await self._take(find)
        if not isinstance(taken, Taken):
            yield taken
            return
        try:
            yield HeldRow(self._database, taken.hold, self.describe(), taken.row, self._watched)
        finally:
            await completed(asyncio.ensure_future(self._release(taken.hold)))

    async def _take(self, find: Callable[[], Awaitable[T | None]]) -> "Taken | T":
        """Take the hold of the row, as soon as nobody has it, or find something. Raises StoreBusy, StoreUnavailable."""
        gives_up_at = self._database.elapsed() + self._lock_timeout
        pause = _FIRST_WAIT
        while True:
            news = self._watched.next_news()  # from before it is asked, so no notification is missed
            if (found := await find()) is not None:
                return found
            taking = asyncio.ensure_future(self._try_to_take())
            try:
                taken = await asyncio.shield(taking)
            except asyncio.CancelledError:
                self._database.finish(self._release_unwanted(taking))
                raise
            if taken is not None:
                return taken
            left = gives_up_at - self._database.elapsed()
            if left <= 0:
                raise await self._busy()
            with suppress(TimeoutError):
                async with asyncio.timeout(min(pause, left)):
                    await news.wait()
            pause = min(2 * pause, _LONGEST_WAIT)

    async def _try_to_take(self) -> "Taken | None":
        before, writer, self._writer = self._database.elapsed(), self._writer or Writer(), None
        values = {
            "account": self.account,
            "writer": writer.id,
            "generation": writer.generation,
            "holder": self._database.holder,
            "seconds": self._times.lock,
            "margin": self._times.margin,
        }
        try:
            row = await self._database.fetch(statements.TAKE, values)
        except StoreUnavailable:
            self._writer = writer  # it may have been done
            raise
        if row is None:
            return None
        hold = Hold(self._database, self.account, writer.id, row["generation"], before + self._times.lock, self._times)
        return Taken(hold, row)

    async def _release_unwanted(self, taking: "asyncio.Task[Taken | None]") -> None:
        """Give the row free: the caller was cancelled while it was taken."""
        with suppress(StoreUnavailable):
            if (taken := await taking) is not None:
                await self._release(taken.hold)

    async def _release(self, hold: Hold) -> None:
        """Give the row free. If the database does not answer, this store may take it again at once."""
        self._writer = await hold.release() or self._writer

    async def _busy(self) -> StoreBusy:
        """The error for a row that somebody else holds."""
        row = await self._database.fetch(statements.HOLDER, {"account": self.account})
        who = row["holder"] if row is not None else "another process"
        left = max(0.0, row["left_seconds"]) if row is not None else 0.0
        return StoreBusy(
            f"{self.describe()} is in use by {who} for more than {self._lock_timeout:g} s: try again"
            + (f" in {left + self._times.margin:.0f} s" if left else "")
        )
