"""The refresh claim on a token while a refresh sends it: recorded before the token is sent, ended once the outcome is
known.
"""

from contextlib import suppress

import msgspec

from authstate.engine.machines.refresh_claim import (
    RefreshClaim,
    RefreshClaimState,
    RefreshClaimTrigger,
    fingerprint_of,
)
from authstate.engine.model.errors import RefreshDeadReason, StoreUnavailable
from authstate.engine.model.secret import Secret
from authstate.engine.ports import Clock, HeldStore


class OpenRefreshClaim:
    """One refresh claim. It lasts until the tokens received for it are stored, which may take several refreshes.

    Args:
        found: the claim that the store held before.
        clock: for the times in the claim.
    """

    def __init__(self, found: RefreshClaim, clock: Clock) -> None:
        self.found = found
        self.successor: Secret | None = None
        """The refresh token that the issuer sent instead of this one, which is spent. None: it sent none."""
        self._clock = clock
        self._claim = found

    async def record(self, held: HeldStore) -> None:
        """Write the claim beside the login. Raises StoreUnavailable: then nothing may be sent."""
        self._claim = self.found.after(RefreshClaimTrigger.CLAIM, self._clock.now())
        await held.record(self._claim)

    async def settle(self, held: HeldStore) -> None:
        """End the claim: the answer is stored, or must no longer be stored."""
        if self.successor is None:
            await self._fire(held, RefreshClaimTrigger.WITHDRAW)
        else:
            await self._fire(held, RefreshClaimTrigger.SETTLE, successor=fingerprint_of(self.successor))

    async def end_unanswered(self, held: HeldStore, *, is_lost: bool) -> None:
        """End the claim without an answer. A doubt that existed before remains.

        Args:
            is_lost: the token may be spent.
        """
        is_doubtful = is_lost or self.found.is_in_doubt
        await self._fire(held, RefreshClaimTrigger.LOSE if is_doubtful else RefreshClaimTrigger.WITHDRAW)

    async def refuse(self, held: HeldStore, reason: RefreshDeadReason, detail: str) -> None:
        """End the claim: the issuer refused the token for good."""
        await self._fire(held, RefreshClaimTrigger.REFUSE, reason=reason, detail=detail)

    async def add_detail(self, held: HeldStore, reason: RefreshDeadReason, detail: str) -> None:
        """Add a detail, found out later, to why the token was refused."""
        if self._claim.state is RefreshClaimState.DEAD and self._claim.reason is reason:
            self._claim = msgspec.structs.replace(self._claim, detail=detail)
            with suppress(StoreUnavailable):
                await held.record(self._claim)

    async def _fire(
        self,
        held: HeldStore,
        trigger: RefreshClaimTrigger,
        *,
        reason: RefreshDeadReason | None = None,
        detail: str = "",
        successor: str = "",
    ) -> None:
        """End the claim, if it is still open. If the store cannot write that, it stays in doubt, which is safe."""
        if self._claim.state is not RefreshClaimState.CLAIMED:
            return
        now = self._clock.now()
        self._claim = self._claim.after(trigger, now, reason=reason, detail=detail, successor=successor)
        with suppress(StoreUnavailable):
            await held.record(self._claim)
