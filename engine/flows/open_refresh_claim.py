"""The refresh claim on a token while a refresh sends it: recorded before the token is sent, ended once the outcome is
known.
"""

from contextlib import suppress

import msgspec

from authstate.engine.flows.combined_writes import prepare_and_record, save_and_record
from authstate.engine.machines.refresh_claim import (
    RefreshClaim,
    RefreshClaimState,
    RefreshClaimTrigger,
    fingerprint_of,
)
from authstate.engine.machines.refresh_trace import ClaimStep, TraceStep
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.errors import RefreshDeadReason, StoreUnavailable
from authstate.engine.model.events import Subscriptions
from authstate.engine.model.secret import Secret
from authstate.engine.ports import Clock, HeldStore

_ENDED_BY = {
    RefreshClaimState.FREE: RefreshClaimTrigger.WITHDRAW,
    RefreshClaimState.DOUBTFUL: RefreshClaimTrigger.LOSE,
    RefreshClaimState.SPENT: RefreshClaimTrigger.SETTLE,
    RefreshClaimState.DEAD: RefreshClaimTrigger.REFUSE,
}


class OpenRefreshClaim:
    """One refresh claim. It lasts until the tokens received for it are stored, which may take several refreshes.

    Args:
        found: the claim that the store held before.
        clock: for the times in the claim.
        trace: gets each step.
        could_wait: see `ClaimStep`.
    """

    def __init__(
        self,
        found: RefreshClaim,
        clock: Clock,
        trace: Subscriptions[TraceStep] | None = None,
        *,
        could_wait: bool = False,
    ) -> None:
        self.found = found
        self.successor: Secret | None = None
        """The refresh token that the issuer sent instead of this one, which is spent. None: it sent none."""
        self._clock = clock
        self._claim = found
        self._trace = trace or Subscriptions[TraceStep]()
        self._could_wait = could_wait

    async def record(self, held: HeldStore) -> None:
        """Make room for the answer, then write the claim. Raises StoreUnavailable: then nothing may be sent."""
        self._claim = self.found.after(RefreshClaimTrigger.CLAIM, self._clock.now())
        is_recorded = False
        try:
            await prepare_and_record(held, self._claim)
            is_recorded = True
        finally:
            self._tell(RefreshClaimTrigger.CLAIM, self.found.state, is_recorded=is_recorded)

    async def save(self, held: HeldStore, tokens: ChatgptTokens) -> None:
        """Store the answer, then end the claim. Raises StoreUnavailable: then the claim is still open."""
        settled = self._settled()
        if settled is None:
            await held.save(tokens)
        else:
            await save_and_record(held, tokens, settled)
            self._claim = settled
            self._tell(_ENDED_BY[settled.state], RefreshClaimState.CLAIMED, is_recorded=True)

    async def settle(self, held: HeldStore) -> None:
        """End the claim: the answer must no longer be stored."""
        await self._end(held, self._settled())

    async def end_unanswered(self, held: HeldStore, *, is_lost: bool) -> None:
        """End the claim without an answer. A doubt that existed before remains.

        Args:
            is_lost: the token may be spent.
        """
        is_doubtful = is_lost or self.found.is_in_doubt
        await self._end(held, self._after(RefreshClaimTrigger.LOSE if is_doubtful else RefreshClaimTrigger.WITHDRAW))

    async def refuse(self, held: HeldStore, reason: RefreshDeadReason, detail: str) -> None:
        """End the claim: the issuer refused the token for good."""
        await self._end(held, self._after(RefreshClaimTrigger.REFUSE, reason=reason, detail=detail))

    async def add_detail(self, held: HeldStore, reason: RefreshDeadReason, detail: str) -> None:
        """Add a detail, found out later, to why the token was refused."""
        if self._claim.state is RefreshClaimState.DEAD and self._claim.reason is reason:
            self._claim = msgspec.structs.replace(self._claim, detail=detail)
            with suppress(StoreUnavailable):
                await held.record(self._claim)

    def _settled(self) -> RefreshClaim | None:
        """The claim once the answer is stored, None if it has ended."""
        if self.successor is None:
            return self._after(RefreshClaimTrigger.WITHDRAW)
        return self._after(RefreshClaimTrigger.SETTLE, successor=fingerprint_of(self.successor))

    def _after(
        self,
        trigger: RefreshClaimTrigger,
        *,
        reason: RefreshDeadReason | None = None,
        detail: str = "",
        successor: str = "",
    ) -> RefreshClaim | None:
        """The claim after what ends it, None if it has ended."""
        if self._claim.state is not RefreshClaimState.CLAIMED:
            return None
        return self._claim.after(trigger, self._clock.now(), reason=reason, detail=detail, successor=successor)

    async def _end(self, held: HeldStore, ended: RefreshClaim | None) -> None:
        """Write how the claim ended. If the store cannot write that, it stays in doubt, which is safe."""
        if ended is not None:
            self._claim = ended
            is_recorded = False
            with suppress(StoreUnavailable):
                await held.record(ended)
                is_recorded = True
            self._tell(_ENDED_BY[ended.state], RefreshClaimState.CLAIMED, is_recorded=is_recorded)

    def _tell(self, trigger: RefreshClaimTrigger, found: RefreshClaimState, *, is_recorded: bool) -> None:
        could_wait = self._could_wait and trigger is RefreshClaimTrigger.CLAIM
        self._trace.emit(ClaimStep(trigger, found, self._claim, is_recorded, could_wait))
