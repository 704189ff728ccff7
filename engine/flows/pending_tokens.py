"""New tokens from the issuer that are not stored yet. They exist nowhere else, because the old refresh token is spent.

Nobody uses them before they are stored. While a store cannot be written, they wait here: the next refresh stores them
instead of asking the issuer. They are discarded when something newer takes their place: a login, a logout, or tokens
that another process stored.
"""

from collections.abc import Callable, Sequence

import msgspec

from authstate.engine.flows.open_refresh_claim import OpenRefreshClaim
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.errors import StoreUnavailable
from authstate.engine.ports import Clock, HeldStore


class RefreshResult(msgspec.Struct, frozen=True):
    """What a refresh brought. The tokens are stored already."""

    tokens: ChatgptTokens
    was_adopted: bool
    """They were found in the store: another process refreshed. So the access token may be old."""


class PendingTokens:
    """Owns the new tokens from the moment the issuer sends them until they are stored or discarded.

    Args:
        clock: for the waits between two tries to store.
        save_waits: seconds to wait before each try.
        warn: called with a code and a message for the log.
    """

    def __init__(self, clock: Clock, save_waits: Sequence[float], warn: Callable[[str, str], None]) -> None:
        self._clock = clock
        self._save_waits = save_waits
        self._warn = warn
        self._pending: tuple[RefreshResult, OpenRefreshClaim] | None = None

    @property
    def tokens(self) -> ChatgptTokens | None:
        """The tokens that wait to be stored, if there are any."""
        return self._pending[0].tokens if self._pending is not None else None

    def holds(self, stored: ChatgptTokens) -> bool:
        """Whether these are the pending tokens: the store wrote them but did not confirm it, so a power cut may still
        lose them.
        """
        return self.tokens is not None and stored.is_same_material_as(self.tokens)

    def keep(self, result: RefreshResult, claim: OpenRefreshClaim) -> None:
        """Keep what the issuer sent. `claim` is the claim on the refresh token that was spent for it."""
        self._pending = (result, claim)

    def discard(self) -> None:
        """Drop the pending tokens, if there are any: something newer took their place."""
        self._pending = None

    async def store(self, held: HeldStore) -> RefreshResult:
        """Store the pending tokens, with a few tries, and settle the claim on the token that was spent for them.

        Raises:
            StoreUnavailable: they could not be stored and stay pending.
        """
        assert self._pending is not None, "only a refresh calls this, after `keep`"
        result, claim = self._pending
        fault: StoreUnavailable | None = None
        for wait in self._save_waits:
            if wait:
                await self._clock.sleep(wait)
            try:
                await claim.save(held, result.tokens)
            except StoreUnavailable as error:
                fault = error
            else:
                self.discard()
                return result
        assert fault is not None
        self._warn("tokens_not_stored", f"new tokens are kept in memory until they can be stored: {fault}")
        raise fault
