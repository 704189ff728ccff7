"""The engine and the store with one guarantee removed. Each mutant is a patch that the simulation must notice.

A mutant changes the real classes, for as long as its context lasts.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from model.simulation.virtual_disk import SimDisk, SimLock

from authstate.adapters.broker import token_grants
from authstate.adapters.stores.file_writer import HeldAuthJson
from authstate.adapters.vault.lease_book import LeaseBook
from authstate.engine.engine import AuthEngine
from authstate.engine.flows import external_tokens, refresh_scheduler, token_recovery
from authstate.engine.flows.open_refresh_claim import OpenRefreshClaim
from authstate.engine.flows.pending_tokens import PendingTokens, RefreshResult
from authstate.engine.flows.refresh import Refresher
from authstate.engine.flows.refresh_retries import RefreshProgress, RefreshRequest
from authstate.engine.flows.refresh_scheduler import RefreshScheduler
from authstate.engine.flows.single_flight import SharedTask
from authstate.engine.machines.lease import Lease
from authstate.engine.machines.refresh_claim import RefreshClaim, fingerprint_of
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.errors import AuthError, IssuerUnavailable, PermanentRefreshError
from authstate.engine.model.session import Authorization
from authstate.engine.model.states import AuthState, Trigger
from authstate.engine.ports import HeldStore

Patches = Mapping[tuple[Any, str], Any]


def _always_taken(lock: SimLock) -> bool:
    lock._runner.pause("lock")
    return True


async def _never_found(refresher: Refresher, held: HeldStore, current: ChatgptTokens) -> None:
    return None


async def _unshielded(task: SharedTask) -> AuthError | None:
    return await task


def _rename_before_sync(held: HeldAuthJson, temporary: str, data: bytes) -> None:
    held._disk.write(temporary, data)
    held._disk.rename(temporary, held._target)
    held._disk.sync(held._target)


def _rename_without_sync(held: HeldAuthJson, temporary: str, data: bytes) -> None:
    held._disk.write(temporary, data)
    held._disk.rename(temporary, held._target)


def _write_in_place(held: HeldAuthJson, temporary: str, data: bytes) -> None:
    if os.path.basename(held._target) not in held._disk.list_folder(os.path.dirname(held._target)):
        held._disk.create(held._target)
    held._disk.write(held._target, data)
    held._disk.sync(held._target)
    held.discard()


def _no_folder_sync(disk: SimDisk, folder: str) -> None:
    disk._runner.pause("sync_folder")


async def _recover_whatever_the_generation(engine: AuthEngine, refused: Authorization) -> Authorization:
    engine._life.ensure_usable()
    if error := await engine._flows.recovery._run_plan(engine.session.generation):
        raise error.without_traceback()
    return Authorization.of(engine.session)


def _adopt_whatever_the_session(scheduler: RefreshScheduler, replaced: ChatgptTokens, result: RefreshResult) -> bool:
    scheduler._machine.fire(Trigger.TOKENS_REFRESHED, result.tokens)
    return True


async def _cancel_at_once(scheduler: RefreshScheduler, grace: float = 60.0) -> None:
    scheduler._shared._flight.cancel()


async def _unsaved(pending: PendingTokens, held: HeldStore) -> RefreshResult:
    assert pending._pending is not None
    result, _ = pending._pending
    pending.discard()
    return result


async def _unclaimed(claim: OpenRefreshClaim, held: HeldStore) -> None:
    """Send without a word to anybody."""
    await held.prepare()


async def _send_whatever_is_known(
    refresher: Refresher, current: ChatgptTokens, is_usable: Callable[[], bool]
) -> RefreshClaim:
    return RefreshClaim(fingerprint_of(current.refresh_token))


async def _send_a_doubt_at_once(
    refresher: Refresher, current: ChatgptTokens, is_usable: Callable[[], bool]
) -> RefreshClaim:
    return await _sendable_claim(refresher, current, lambda: False)


def _repeat_again_and_again(request: RefreshRequest, state: Any) -> bool:
    return isinstance(state.outcome.exception(), IssuerUnavailable)


_sendable_claim = Refresher._sendable_claim
_refresh = RefreshScheduler.refresh


async def _send_the_dead_token(scheduler: RefreshScheduler, patience: float | None = None) -> None:
    session = scheduler._machine.session
    if session.state is not AuthState.REFRESH_DEAD:
        await _refresh(scheduler, patience)
        return
    tokens = session.credentials
    assert isinstance(tokens, ChatgptTokens)
    # The state, this memory and the claim all keep it from being sent.
    scheduler._refresher._dead.clear()
    store: Any = scheduler._store
    store._disk._platter.claims = b""
    try:
        await scheduler._refresher.run(tokens, lambda: False, RefreshProgress())
    except PermanentRefreshError as dead:
        raise dead.without_traceback() from None


def _ended_by_word_only(book: LeaseBook, lease_id: str) -> Lease:
    return next(lease for lease in book.leases() if lease.id == lease_id)


def _anybodys(lease: Lease, tokens: ChatgptTokens) -> None:
    """Give the token of whoever is signed in."""


MUTANTS: Mapping[str, Patches] = {
    "no lock": {(SimLock, "acquire"): _always_taken},
    "no reload under the lock": {(Refresher, "_newer_in_store"): _never_found},
    "no shield": {
        (module, "wait_shielded"): _unshielded for module in (external_tokens, refresh_scheduler, token_recovery)
    },
    "rename before fsync": {(HeldAuthJson, "_fill_and_rename"): _rename_before_sync},
    "no fsync of the file": {(HeldAuthJson, "_fill_and_rename"): _rename_without_sync},
    "no fsync of the folder": {(SimDisk, "sync_folder"): _no_folder_sync},
    "write in place": {(HeldAuthJson, "_fill_and_rename"): _write_in_place},
    "no generation check after a 401": {(AuthEngine, "recover"): _recover_whatever_the_generation},
    "no check that the session is the same": {(RefreshScheduler, "_adopt"): _adopt_whatever_the_session},
    "a spent token may be cancelled": {(RefreshScheduler, "finish_or_cancel"): _cancel_at_once},
    "used before it is stored": {(PendingTokens, "store"): _unsaved},
    "a dead token is sent again": {(RefreshScheduler, "refresh"): _send_the_dead_token},
    "no claim": {(OpenRefreshClaim, "record"): _unclaimed},
    "no look at the claim": {(Refresher, "_sendable_claim"): _send_whatever_is_known},
    "a doubt is sent at once": {(Refresher, "_sendable_claim"): _send_a_doubt_at_once},
    "an ended lease goes on": {(LeaseBook, "end"): _ended_by_word_only},
    "a lease yields tokens of whoever is signed in": {(token_grants, "_ensure_owner"): _anybodys},
    "a lost answer is repeated": {(RefreshRequest, "_may_repeat"): _repeat_again_and_again},
}


def mutated(name: str) -> AbstractContextManager[None]:
    """Run with one guarantee removed."""
    return patched(MUTANTS[name])


@contextmanager
def patched(patches: Patches) -> Iterator[None]:
    """Run with other attributes, which exist and are callable."""
    with ExitStack() as stack:
        for (where, attribute), replacement in patches.items():
            assert callable(getattr(where, attribute))
            stack.enter_context(patch.object(where, attribute, replacement))
        yield
