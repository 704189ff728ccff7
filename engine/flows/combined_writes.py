"""The writes of a refresh: in one step each where a store can do that (`CombinesWrites`), and in two elsewhere."""

from contextlib import suppress
from typing import TypeGuard

from authstate.engine.machines.refresh_claim import RefreshClaim
from authstate.engine.model.credentials import Credentials
from authstate.engine.model.errors import StoreUnavailable
from authstate.engine.ports import CombinesWrites, HeldStore


async def prepare_and_record(held: HeldStore, claim: RefreshClaim) -> None:
    """See `CombinesWrites`."""
    if _combines_writes(held):
        await held.prepare_and_record(claim)
    else:
        await held.prepare()
        await held.record(claim)


async def save_and_record(held: HeldStore, credentials: Credentials, claim: RefreshClaim) -> None:
    """See `CombinesWrites`."""
    if _combines_writes(held):
        await held.save_and_record(credentials, claim)
    else:
        await held.save(credentials)
        with suppress(StoreUnavailable):
            await held.record(claim)


def _combines_writes(held: HeldStore) -> TypeGuard[CombinesWrites]:
    """Return whether the class of a held store has the combined methods.

    A wrapper may pass on with `__getattr__` what it does not define. The combined methods of the store inside would
    bypass its own `save` and `record`. `isinstance` finds them in Python 3.11, and does not from 3.12 on.
    """
    return issubclass(type(held), CombinesWrites)
