"""The refresh claim on a token while a refresh sends it: recorded before the token is sent, ended once the outcome is
known.
"""

from contextlib import suppress

import msgspec

from authstate.engine.machines.refresh_claim import RefreshClaim, RefreshClaimState, RefreshClaimTrigger
from authstate.engine.model.errors import RefreshDeadReason, StoreUnavailable
from authstate.engine.ports import Clock, HeldStore


class OpenRefreshClaim:
    """One refresh claim. It lasts until the tokens received for it are stored, which may take several refreshes.

    Args:
        found: the claim that the store held before.
        clock: for the times in the claim.
    """

    def __init__(self, found: RefreshClaim, clock: Clock) -> None:
        self.found = found
        self.was_rotated = False
        """The issuer answered with another refresh token, so this one is spent."""
        self._clock = clock
        self._claim = found

    async def record(self, held: HeldStore) -> None:
        """Write the claim beside the login. Raises StoreUnavailable: then nothing may be sent."""
        self._claim = self.found.after(RefreshClaimTrigger.CLAIM, self._clock.now())
        await held.record(self._claim)

    async def settle(self, held: HeldStore) -> None:
        """End the claim: the answer is stored, or must no longer be stored."""
        await self._end(held, RefreshClaimTrigger.SETTLE if self.was_rotated else RefreshClaimTrigger.WITHDRAW)

    async def end_unanswered(self, held: HeldStore, *, is_lost: bool) -> None:
        """End the claim without an answer. A doubt that existed before remains.

        Args:
            is_lost: the token may be spent.
        """
        await self._end(
            held, RefreshClaimTrigger.LOSE if is_lost or self.found.is_in_doubt else RefreshClaimTrigger.WITHDRAW
        )

    async def refuse(self, held: HeldStore, reason: RefreshDeadReason, detail: str) -> None:
        """End the claim: the issuer refused the token for good."""
        await self._end(held, RefreshClaimTrigger.REFUSE, reason, detail)

    async def add_detail(self, held: HeldStore, reason: RefreshDeadReason, detail: str) -> None:
        """Add a detail, found out later, to why the token was refused."""
        if self._claim.state is RefreshClaimState.DEAD and self._claim.reason is reason:
            self._claim = msgspec.structs.replace(self._claim, detail=detail)
            with suppress(StoreUnavailable):
                await held.record(self._claim)

    async def _end(
        self, held: HeldStore, trigger: RefreshClaimTrigger, reason: RefreshDeadReason | None = None, detail: str = ""
    ) -> None:
        """Fire a trigger, if the claim is still open. If the store cannot write the result, the claim stays in doubt,
        which is safe.
        """
        if self._claim.state is not RefreshClaimState.CLAIMED:
            return
        self._claim = self._claim.after(trigger, self._clock.now(), reason, detail)
        with suppress(StoreUnavailable):
            await held.record(self._claim)
