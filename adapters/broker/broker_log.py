"""What a broker writes to its log beside the events of its engines: what it refused, leases, and who has the login.

    oauth_refused    endpoint, error, message, and the lease or the account if it is known. One that comes again is
                     counted, and written once a minute with `repeated`
    lease_made       lease, account, label, expires_at
    lease_over       lease, account, state
    login_adopted    the vault has the login of the home now
    login_released   the home has its login again

No line holds a token, a handle or an email. Leases are made and ended by any process, so the list is looked at once a
second.
"""

from typing import Protocol

from authstate.adapters.broker.broker import Broker
from authstate.adapters.broker.oauth_errors import OAuthRefusal
from authstate.adapters.broker.repeated_lines import Members, RepeatedLines
from authstate.adapters.config.settings import TOKEN_PATH
from authstate.adapters.logs.loggers import write_line
from authstate.engine.machines.lease import Lease, LeaseState

LOOK_EVERY = 1.0
"""Seconds between two looks at the leases."""
MOST_LEASES = 20
"""Lines about leases that are written after one look."""


class WritesLine(Protocol):
    """Writes a line to the log."""

    def __call__(self, event: str, /, **members: object) -> object:
        """Write it."""
        ...


class BrokerLog:
    """The log of a broker.

    Args:
        broker: whose log it is.
        warn, inform: write a line; by default to the logger `authstate.broker`.
    """

    def __init__(self, broker: Broker, warn: WritesLine | None = None, inform: WritesLine | None = None) -> None:
        self._warn: WritesLine = warn or _write_warning
        self._inform: WritesLine = inform or _write_info
        self._broker = broker
        self._refusals = RepeatedLines(self._log_refusal, broker.clock.monotonic)
        self._changes = broker.leases.watch()
        self._news = broker.accounts.news()

    def refused(self, path: str, refusal: OAuthRefusal) -> None:
        """Log that a request to an OAuth endpoint was refused."""
        client = refusal.client
        members = {
            "endpoint": "token" if path == TOKEN_PATH else "revoke",
            "error": str(refusal.error),
            "lease": client.lease if client else None,
            "account": client.account if client else None,
        }
        known = {name: value for name, value in members.items() if value is not None}
        self._refusals.add(tuple(members.values()), {**known, "message": refusal.description})

    async def watch(self) -> None:
        """Log what other processes do, without an end."""
        while True:
            await self.look()
            await self._broker.clock.sleep(LOOK_EVERY)

    async def close(self) -> None:
        """Log what has happened since the last look, and how often refusals came again."""
        await self.look()
        self._refusals.flush(is_end=True)

    async def look(self) -> None:
        """Log what has happened since the last look."""
        changed = await self._changes.look()
        for lease in changed[:MOST_LEASES]:
            self._log_lease(lease)
        if len(changed) > MOST_LEASES:
            self._inform("more_leases", count=len(changed) - MOST_LEASES)
        for line in await self._news.look(changed):
            (self._warn if line.is_warning else self._inform)(line.event, **line.members)
        self._refusals.flush()

    def _log_refusal(self, members: Members) -> None:
        self._warn("oauth_refused", **members)

    def _log_lease(self, lease: Lease) -> None:
        if lease.state is LeaseState.ACTIVE:
            more = {"label": lease.label or None, "expires_at": lease.expires_at}
            known = {name: value for name, value in more.items() if value is not None}
            self._inform("lease_made", lease=lease.id, account=lease.account, **known)
        else:
            self._inform("lease_over", lease=lease.id, account=lease.account, state=str(lease.state))


def _write_warning(event: str, /, **members: object) -> None:
    write_line("broker", "warning", event, members)


def _write_info(event: str, /, **members: object) -> None:
    write_line("broker", "info", event, members)
