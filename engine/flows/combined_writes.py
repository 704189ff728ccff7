"""The writes of a refresh: in one step each where a store can do that (`CombinesWrites`), and in two elsewhere."""

from contextlib import suppress

from authstate.engine.machines.refresh_claim import RefreshClaim
from authstate.engine.model.credentials import Credentials
from authstate.engine.model.errors import StoreUnavailable
from authstate.engine.ports import CombinesWrites, HeldStore


async def prepare_and_record(held: HeldStore, claim: RefreshClaim) -> None:
    """See `CombinesWrites`."""
    if isinstance(held, CombinesWrites):
        await held.prepare_and_record(claim)
    else:
        await held.prepare()
        await held.record(claim)


async def save_and_record(held: HeldStore, credentials: Credentials, claim: RefreshClaim) -> None:
    """See `CombinesWrites`."""
    if isinstance(held, CombinesWrites):
        await held.save_and_record(credentials, claim)
    else:
        await held.save(credentials)
        with suppress(StoreUnavailable):
            await held.record(claim)
