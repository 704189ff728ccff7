"""The claim on a refresh token while a flight sends it: recorded before it goes out, ended when it is known what became
of it.
"""

from contextlib import suppress

import msgspec

from authstate.engine.machines.claim import Claim, ClaimState, ClaimTrigger
from authstate.engine.model.errors import RefreshDeadReason, StoreUnavailable
from authstate.engine.ports import Clock, HeldStore


class OpenClaim:
    """One claim, from the flight that takes it to the one that stores what the token brought.

    Args:
        found: what was known of the token before.
        clock: for the times in it.
    """

    def __init__(self, found: Claim, clock: Clock) -> None:
        self.found = found
        self.brought_another = False
        """The issuer answered with another refresh token: this one is spent."""
        self._clock = clock
        self._claim = found

    async def take(self, held: HeldStore) -> None:
        """Record it. Raises StoreUnavailable: then nothing may be sent."""
        self._claim = self.found.after(ClaimTrigger.CLAIM, self._clock.now())
        await held.record(self._claim)

    async def settle(self, held: HeldStore) -> None:
        """What the token brought is stored, or must not be stored any more."""
        await self._end(held, ClaimTrigger.SETTLE if self.brought_another else ClaimTrigger.WITHDRAW)

    async def give_up(self, held: HeldStore, *, is_lost: bool) -> None:
        """No answer came. `is_lost`: the token may be spent. A doubt that was there before stays."""
        await self._end(held, ClaimTrigger.LOSE if is_lost or self.found.is_in_doubt else ClaimTrigger.WITHDRAW)

    async def refuse(self, held: HeldStore, reason: RefreshDeadReason, detail: str) -> None:
        """The issuer refused it for good."""
        await self._end(held, ClaimTrigger.REFUSE, reason, detail)

    async def explain(self, held: HeldStore, reason: RefreshDeadReason, detail: str) -> None:
        """More is known of why it was refused."""
        if self._claim.state is ClaimState.DEAD and self._claim.reason is reason:
            self._claim = msgspec.structs.replace(self._claim, detail=detail)
            with suppress(StoreUnavailable):
                await held.record(self._claim)

    async def _end(
        self, held: HeldStore, trigger: ClaimTrigger, reason: RefreshDeadReason | None = None, detail: str = ""
    ) -> None:
        """Move the claim, if it is still open. A store that cannot keep that leaves a doubt, which is true enough."""
        if self._claim.state is not ClaimState.CLAIMED:
            return
        self._claim = self._claim.after(trigger, self._clock.now(), reason, detail)
        with suppress(StoreUnavailable):
            await held.record(self._claim)
