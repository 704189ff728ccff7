"""A refresh claim ends once, and the store learns of it together with the tokens."""

from authstate import MemoryStore
from authstate.engine.flows.open_refresh_claim import OpenRefreshClaim
from authstate.engine.machines.refresh_claim import RefreshClaim, RefreshClaimState
from authstate.engine.model.errors import RefreshDeadReason
from authstate.testing import ManualClock, make_tokens


async def test_a_claim_that_was_never_recorded_is_not_ended() -> None:
    store = MemoryStore()
    async with store.locked() as held:
        await OpenRefreshClaim(RefreshClaim("fingerprint"), ManualClock()).settle(held)
    assert await store.claim_on("fingerprint") is None


async def test_a_save_settles_the_claim() -> None:
    store, tokens = MemoryStore(), make_tokens()
    claim = OpenRefreshClaim(RefreshClaim("fingerprint"), ManualClock())
    async with store.locked() as held:
        await claim.record(held)
        claim.successor = tokens.refresh_token
        await claim.save(held, tokens)
    found = await store.claim_on("fingerprint")
    assert found is not None and found.state is RefreshClaimState.SPENT
    assert await store.load() == tokens


async def test_a_save_after_a_refusal_leaves_the_claim_dead() -> None:
    """Another program refreshed: its tokens are stored again, and the old one stays dead."""
    store, tokens = MemoryStore(), make_tokens()
    claim = OpenRefreshClaim(RefreshClaim("fingerprint"), ManualClock())
    async with store.locked() as held:
        await claim.record(held)
        await claim.refuse(held, RefreshDeadReason.EXHAUSTED, "")
        await claim.save(held, tokens)
    found = await store.claim_on("fingerprint")
    assert found is not None and found.state is RefreshClaimState.DEAD
    assert await store.load() == tokens
