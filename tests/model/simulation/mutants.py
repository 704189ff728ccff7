"""The engine and the store with one guarantee removed. Each mutant is a patch that the simulation must notice.

A mutant changes the real classes, for as long as its context lasts.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from model.simulation.virtual_disk import SimDisk, SimLock

from authstate.adapters.stores.file import HeldAuthJson
from authstate.engine import engine
from authstate.engine.engine import AuthEngine
from authstate.engine.flows import refresh_scheduler
from authstate.engine.flows.open_claim import OpenClaim
from authstate.engine.flows.refresh import Refresher, RefreshResult
from authstate.engine.flows.refresh_request import RefreshSender
from authstate.engine.flows.refresh_scheduler import RefreshScheduler
from authstate.engine.flows.shared_recovery import SharedRecovery
from authstate.engine.machines.claim import Claim, fingerprint_of
from authstate.engine.machines.recovery import RecoveryPlan
from authstate.engine.model.authorization import Authorization
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.errors import AuthError, IssuerUnavailable, PermanentRefreshError
from authstate.engine.model.session import Session
from authstate.engine.model.states import AuthState, Trigger
from authstate.engine.ports import HeldStore

Patches = Mapping[tuple[Any, str], Any]


def _always_taken(lock: SimLock) -> bool:
    lock._runner.pause("lock")
    return True


async def _never_found(refresher: Refresher, held: HeldStore, current: ChatgptTokens) -> None:
    return None


async def _unshielded(task: refresh_scheduler.RefreshTask) -> AuthError | None:
    return await task


def _rename_before_sync(held: HeldAuthJson, spare: str, data: bytes) -> None:
    held._disk.write(spare, data)
    held._disk.rename(spare, held._target)
    held._disk.sync(held._target)


def _rename_without_sync(held: HeldAuthJson, spare: str, data: bytes) -> None:
    held._disk.write(spare, data)
    held._disk.rename(spare, held._target)


def _write_in_place(held: HeldAuthJson, spare: str, data: bytes) -> None:
    if os.path.basename(held._target) not in held._disk.names(os.path.dirname(held._target)):
        held._disk.create(held._target)
    held._disk.write(held._target, data)
    held._disk.sync(held._target)
    held.discard()


def _no_folder_sync(disk: SimDisk, folder: str) -> None:
    disk._runner.pause("sync_folder")


async def _recover_whatever_the_generation(engine: AuthEngine, refused: Authorization) -> Authorization:
    engine._ensure_open()
    if error := await SharedRecovery(RecoveryPlan())._recover(engine, engine.session.generation):
        raise error.again()
    return Authorization.of(engine.session)


def _adopt_whatever_the_session(keeper: RefreshScheduler, replaced: ChatgptTokens, renewal: RefreshResult) -> bool:
    keeper._machine.fire(Trigger.TOKENS_REFRESHED, renewal.tokens)
    return True


async def _cancel_at_once(keeper: RefreshScheduler, grace: float = 60.0) -> None:
    if keeper._flight is not None:
        keeper._flight.cancel()


async def _unsaved(refresher: Refresher, held: HeldStore, renewal: RefreshResult) -> RefreshResult:
    refresher.clear_pending_write()
    return renewal


async def _unclaimed(claim: OpenClaim, held: HeldStore) -> None:
    """Send without a word to anybody."""


async def _send_whatever_is_known(refresher: Refresher, current: ChatgptTokens, serves: Callable[[], bool]) -> Claim:
    return Claim(fingerprint_of(current.refresh_token))


async def _send_a_doubt_at_once(refresher: Refresher, current: ChatgptTokens, serves: Callable[[], bool]) -> Claim:
    return await _sendable(refresher, current, lambda: False)


def _repeat_again_and_again(sending: RefreshSender, state: Any) -> bool:
    return isinstance(state.outcome.exception(), IssuerUnavailable)


_sendable = Refresher._sendable
_refresh = AuthEngine.refresh


async def _send_the_dead_token(engine: AuthEngine) -> Session:
    if engine.session.state is not AuthState.REFRESH_DEAD:
        return await _refresh(engine)
    tokens = engine.session.credentials
    assert isinstance(tokens, ChatgptTokens)
    # The state, this memory and the claim all keep it from being sent.
    engine._scheduler.refresher._dead.clear()
    store: Any = engine._store
    store._disk._platter.claims = b""
    try:
        await engine._scheduler.refresher.run(tokens)
    except PermanentRefreshError as dead:
        raise dead.again() from None
    return engine.session


MUTANTS: Mapping[str, Patches] = {
    "no lock": {(SimLock, "acquire"): _always_taken},
    "no reload under the lock": {(Refresher, "_found_elsewhere"): _never_found},
    "no shield": {(refresh_scheduler, "outcome"): _unshielded, (engine, "outcome"): _unshielded},
    "rename before fsync": {(HeldAuthJson, "_fill_and_rename"): _rename_before_sync},
    "no fsync of the file": {(HeldAuthJson, "_fill_and_rename"): _rename_without_sync},
    "no fsync of the folder": {(SimDisk, "sync_folder"): _no_folder_sync},
    "write in place": {(HeldAuthJson, "_fill_and_rename"): _write_in_place},
    "no generation check after a 401": {(AuthEngine, "recover"): _recover_whatever_the_generation},
    "no check that the session is the same": {(RefreshScheduler, "_adopt"): _adopt_whatever_the_session},
    "a spent token may be cancelled": {(RefreshScheduler, "finish_or_cancel"): _cancel_at_once},
    "used before it is stored": {(Refresher, "_stored"): _unsaved},
    "a dead token is sent again": {(AuthEngine, "refresh"): _send_the_dead_token},
    "no claim": {(OpenClaim, "take"): _unclaimed},
    "no look at the claim": {(Refresher, "_sendable"): _send_whatever_is_known},
    "a doubt is sent at once": {(Refresher, "_sendable"): _send_a_doubt_at_once},
    "a lost answer is repeated": {(RefreshSender, "_may_repeat"): _repeat_again_and_again},
}


@contextmanager
def mutated(name: str) -> Iterator[None]:
    """Run with one guarantee removed."""
    with ExitStack() as stack:
        for (where, attribute), replacement in MUTANTS[name].items():
            assert callable(getattr(where, attribute))
            stack.enter_context(patch.object(where, attribute, replacement))
        yield
