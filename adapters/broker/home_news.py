"""Notices that the login of a home was moved into its vault, or back."""

from collections.abc import Sequence

from authstate.adapters.broker.served_accounts import NewsLine
from authstate.adapters.vault.accounts_file import HOME_ACCOUNT
from authstate.adapters.vault.home_account import HomeAccountStore
from authstate.engine.machines.lease import Lease
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.errors import StoreUnavailable

_LOOKS_AT_HOME = 3  # after a lease of the home has changed: the login moves a moment after that


class HomeNews:
    """See `ReportsNews`. It reads the home only for a while after a lease of it has changed.

    Args:
        store: of the home's own account.
    """

    def __init__(self, store: HomeAccountStore) -> None:
        self._store = store
        self._looks_left = _LOOKS_AT_HOME
        self._is_adopted: bool | None = None

    async def look(self, changed: Sequence[Lease]) -> list[NewsLine]:
        """See `ReportsNews`."""
        if any(lease.is_of_home for lease in changed):
            self._looks_left = _LOOKS_AT_HOME
        if not self._looks_left:
            return []
        self._looks_left -= 1
        try:
            stored = await self._store.home.load()
        except StoreUnavailable:
            return []
        before, self._is_adopted = self._is_adopted, self._store.is_adopted_by(stored)
        if before is None or before == self._is_adopted:
            return []
        if self._is_adopted:
            return [NewsLine("login_adopted", {"account": HOME_ACCOUNT})]
        is_released = isinstance(stored, ChatgptTokens)
        return [NewsLine("login_released", {"account": HOME_ACCOUNT})] if is_released else []
