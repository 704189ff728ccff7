"""Moves a login from another store into a database. At no moment is it in neither, or usable in both.

A refresh token works once, so two stores must not both use it. Under the lock of the old store and the hold of the row:

1. Mark the token as dead in the old store. From here on, no process refreshes it there.
2. Save the login in the row, with a receipt, in one transaction.
3. Remove it from the old store.

A process that ends in between leaves a mark, or a mark and a receipt. Moving it again goes on from there. A receipt is
a claim on a token that does not exist, so it stays after the login was refreshed, and after somebody signed out. What
was moved once is never saved a second time.
"""

import hashlib
import time
from enum import StrEnum
from typing import Final

from authstate.adapters.postgres.held_row import HeldRow
from authstate.adapters.postgres.store import PostgresStore
from authstate.engine.machines.refresh_claim import (
    RefreshClaim,
    RefreshClaimState,
    RefreshClaimTrigger,
    fingerprint_of,
)
from authstate.engine.model.credentials import ChatgptTokens, Credentials
from authstate.engine.model.errors import RefreshDeadReason, StoreUnavailable, strip_tracebacks
from authstate.engine.model.lease_handle import is_lease
from authstate.engine.ports import CredentialStore, HeldStore

_MOVED: Final = "This login was moved to "


class Move(StrEnum):
    """What became of a login that was to be moved."""

    NOTHING = "nothing"
    """Nobody is signed in there."""
    MOVED = "moved"
    FINISHED = "finished"
    """It was in the database already, by a move that ended too early. Only its copy was removed."""


@strip_tracebacks
async def move_login(source: CredentialStore, target: PostgresStore) -> Move:
    """Move the login of a store into a row that is empty.

    Args:
        source: where it is.
        target: the row.

    Returns:
        What was done.

    Raises:
        StoreUnavailable: it was not moved, and the message says why: the row holds a login, an answer to a refresh was
            lost, the refresh token is dead, a store cannot be used. Unless the message says otherwise, nothing was
            changed. Moving it again, to the same row, is always safe.

    It may be cancelled. If a write was under way, moving it again finishes the move.
    """
    async with source.locked() as held:
        login = await held.load()
        if login is None:
            return Move.NOTHING
        if not isinstance(login, ChatgptTokens) or not login.can_refresh:
            return await _move_key(source, held, login, target)
        if is_lease(login.refresh_token):
            raise StoreUnavailable(f"{source.describe()} holds a lease of a broker, and no login that could be moved")
        return await _move_tokens(source, held, login, target)


async def _move_key(source: CredentialStore, held: HeldStore, login: Credentials, target: PostgresStore) -> Move:
    """Move what is never refreshed, so that two copies of it do no harm."""
    async with target.locked() as row:
        found = await row.load()
        if found is not None and found != login:
            raise _occupied(source, target)
        if found is None:
            await row.save(login)
    await held.delete()
    return Move.MOVED if found is None else Move.FINISHED


async def _move_tokens(source: CredentialStore, held: HeldStore, login: ChatgptTokens, target: PostgresStore) -> Move:
    fingerprint = fingerprint_of(login.refresh_token)
    mark = f"{_MOVED}{target.describe()}."
    is_marked = _is_marked(source, await source.claim_on(fingerprint), mark)
    async with target.locked() as row:
        assert isinstance(row, HeldRow)
        receipt = await target.claim_on(_receipt_of(fingerprint))
        if receipt is None:
            if await row.load() is not None:
                raise _occupied(source, target)
            if await target.claim_on(fingerprint) is not None:
                raise StoreUnavailable(f"{target.describe()} has used this login before: sign in anew there")
            await row.prepare_to_save()
            if not is_marked:
                await held.record(_marking(fingerprint, login, mark))
            try:
                await row.save_and_record(login, _receipt(fingerprint, login))
            except StoreUnavailable as error:
                raise StoreUnavailable(f"{error}. The move was begun: repeat it to the same database and id") from None
    await held.delete()
    return Move.MOVED if receipt is None else Move.FINISHED


def _is_marked(source: CredentialStore, claim: RefreshClaim | None, mark: str) -> bool:
    """Whether a move to this row was begun. Raises StoreUnavailable if the token must not be moved."""
    if claim is None or claim.state is RefreshClaimState.FREE:
        return False
    place = source.describe()
    if claim.is_in_doubt:
        doubt = claim.describe_doubt()
        raise StoreUnavailable(f"{place}: {doubt}: use it there until that is settled (`authstate status`)")
    if claim.state is RefreshClaimState.DEAD and claim.detail == mark:
        return True
    if claim.state is RefreshClaimState.DEAD and claim.detail.startswith(_MOVED):
        raise StoreUnavailable(f"{place}: {claim.detail} Repeat that command to finish it: same database, same id")
    raise StoreUnavailable(f"{place} holds a login that can no longer be refreshed: sign in again, then move it")


def _marking(fingerprint: str, login: ChatgptTokens, mark: str) -> RefreshClaim:
    """The claim that makes a token unusable in the old store. Its detail tells a person where the login is."""
    claim = RefreshClaim(fingerprint, account=login.account.digest).after(RefreshClaimTrigger.CLAIM, time.time())
    return claim.after(RefreshClaimTrigger.REFUSE, time.time(), reason=RefreshDeadReason.ACCOUNT_CHANGED, detail=mark)


def _receipt(fingerprint: str, login: ChatgptTokens) -> RefreshClaim:
    claim = RefreshClaim(_receipt_of(fingerprint), account=login.account.digest)
    claim = claim.after(RefreshClaimTrigger.CLAIM, time.time())
    return claim.after(RefreshClaimTrigger.SETTLE, time.time(), detail="moved here", successor=fingerprint)


def _receipt_of(fingerprint: str) -> str:
    """The name of a receipt: a digest that is the fingerprint of no token."""
    return hashlib.sha256(f"moved {fingerprint}".encode()).hexdigest()[:32]


def _occupied(source: CredentialStore, target: PostgresStore) -> StoreUnavailable:
    return StoreUnavailable(
        f"{target.describe()} holds a login already, so that of {source.describe()} was not moved: sign out of one of "
        "them, or name another id"
    )
