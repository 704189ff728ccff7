"""Finds the leases that were made or are over since the last look, whichever process did it."""

import msgspec

from authstate.adapters.vault.lease_book import LeaseBook
from authstate.engine.machines.lease import Lease, LeaseState
from authstate.engine.model.errors import StoreUnavailable


class LeaseChanges:
    """The changes of a list of leases. What there is at the beginning is no change.

    Args:
        leases: the list.
    """

    def __init__(self, leases: LeaseBook) -> None:
        self._leases = leases
        self._known: dict[str, Lease] = {lease.id: lease for lease in self._read() or ()}

    async def look(self) -> list[Lease]:
        """Return the leases that are new or over, as they are now. None of them if the list cannot be read now."""
        found = self._read()
        if found is None:
            return []
        now = {lease.id: lease for lease in found}
        new = [lease for lease in found if lease.id not in self._known]
        over = [
            now.get(before.id) or msgspec.structs.replace(before, state=LeaseState.ENDED)
            for before in self._known.values()
            if before.state is LeaseState.ACTIVE
            and (before.id not in now or now[before.id].state is not LeaseState.ACTIVE)
        ]
        self._known = now
        return over + new

    def _read(self) -> tuple[Lease, ...] | None:
        try:
            return self._leases.leases()
        except StoreUnavailable:
            return None
