"""The refresh protocol. Only this file decides whether a refresh token is sent; refresh_retries.py sends it.

Theory of operation. A refresh token works once, and an issuer may revoke the whole login when it sees one twice. So
only one task of a process, and one of all processes that share the login, may spend it. What it brings must be stored
before anybody uses it:

1. Take the store's lock. In a database it ends by itself: then a token is sent only within its time (`LimitsSending`).
   There, whoever waits also reads, and adopts what another process stored without the lock (`LocksUnless`).
2. Reload under the lock. Other tokens of the same account mean that another process refreshed: they are adopted without
   the network. Another account, or no login, is a permanent error: nothing is sent or written.
3. Look at the claim on the token (machines/refresh_claim.py). A token that is spent or dead is never sent again, by any
   process. A token in doubt, because an answer was lost or a process ended during a refresh, is sent again only when
   the access token is no longer usable.
4. Make room in the store and record the claim, while nothing is spent yet.
5. Ask the issuer (refresh_retries.py). tenacity repeats what was certainly not processed. A request that may have been
   processed is repeated once, at once; if that fails too, the claim becomes a doubt.
6. Look at the store once more. If another program signed out or signed in with another account without the lock, the
   answer must not bring the old login back.
7. Store the answer (pending_tokens.py), and only then let anybody see it. Then settle the claim.

From the moment a request is sent until its answer is stored, `RefreshProgress.is_uncancellable` is true, and the
refresh must not be cancelled. At any other moment (waiting for the lock, waiting between two tries) cancelling it loses
nothing.
"""

from asyncio import CancelledError
from collections import deque
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from random import Random
from typing import cast

import msgspec

from authstate.engine.flows.open_refresh_claim import OpenRefreshClaim
from authstate.engine.flows.pending_tokens import PendingTokens, RefreshResult
from authstate.engine.flows.refresh_retries import RefreshProgress, RefreshRequest
from authstate.engine.machines.refresh_claim import RefreshClaim, RefreshClaimState, fingerprint_of, format_time
from authstate.engine.machines.refresh_trace import TraceStep
from authstate.engine.model.account import account_of
from authstate.engine.model.credentials import ChatgptTokens, storable_time
from authstate.engine.model.errors import (
    InvalidCredentials,
    IssuerUnavailable,
    PermanentRefreshError,
    RefreshDeadReason,
    RefreshInDoubt,
    StoreUnavailable,
)
from authstate.engine.model.events import Subscriptions
from authstate.engine.model.jwt_claims import expiry_of, read_jwt_claims
from authstate.engine.model.refresh_settings import RefreshSettings
from authstate.engine.model.secret import Secret
from authstate.engine.ports import (
    Clock,
    CredentialStore,
    HeldStore,
    LimitsSending,
    LocksUnless,
    PartialRefresh,
    RefreshedTokens,
    ReportsLastChange,
    TokenAuthority,
)

_CAUSED_BY_OTHERS = (RefreshDeadReason.EXHAUSTED, RefreshDeadReason.ACCOUNT_CHANGED)
_CAUSED_BY_DOUBT = (RefreshDeadReason.EXHAUSTED, RefreshDeadReason.REVOKED, RefreshDeadReason.UNKNOWN)
_MAX_SPENT = 64  # refresh tokens to remember: a backup that is older than so many refreshes has expired


class Refresher:
    """Runs the protocol. It knows no states: its caller tells it which tokens to renew, and acts on the result.

    Args:
        pending: holds new tokens that could not be stored yet.
        warn: called with a code and a message for the log.
        trace: gets what is done with each refresh token.
    """

    def __init__(
        self,
        store: CredentialStore,
        authority: TokenAuthority,
        clock: Clock,
        random: Random,
        settings: RefreshSettings,
        pending: PendingTokens,
        warn: Callable[[str, str], None],
        trace: Subscriptions[TraceStep] | None = None,
    ) -> None:
        self._store = store
        self._authority = authority
        self._trace = trace or Subscriptions[TraceStep]()
        self._clock = clock
        self._random = random
        self._settings = settings
        self._pending = pending
        self._warn = warn
        # Claims inform other processes, but a store may fail to write them. This process also remembers by itself:
        self._dead: dict[Secret, RefreshDeadReason] = {}  # refused for good
        self._spent: deque[Secret] = deque(maxlen=_MAX_SPENT)  # answered with another one

    async def is_outdated(self, stored: ChatgptTokens) -> bool:
        """Whether these tokens were replaced: this process or another one spent their refresh token."""
        if stored.refresh_token in self._spent:
            return True
        with suppress(StoreUnavailable):
            claim = await self._store.claim_on(fingerprint_of(stored.refresh_token))
            return claim is not None and claim.state is RefreshClaimState.SPENT
        return False

    async def run(
        self, current: ChatgptTokens, is_usable: Callable[[], bool], progress: RefreshProgress
    ) -> RefreshResult:
        """Do steps 1 to 7 for the tokens in use.

        Args:
            is_usable: whether their access token is still usable. If so, a refresh token in doubt is not sent.
            progress: kept up to date for the owner of the refresh.

        Raises:
            PermanentRefreshError: the refresh token is dead, or the store holds another account.
            TransientAuthError: the issuer or the store is not available just now; nothing is lost.

        Cancel it only while `progress.is_uncancellable` is false.
        """
        if not current.can_refresh:
            return await self._replacement_of(current)
        try:
            async with self._locked_unless_replaced(current) as found:
                if isinstance(found, RefreshResult):
                    return found
                return await self._run_locked(found, current, is_usable, progress)
        finally:
            progress.is_uncancellable = False

    def _locked_unless_replaced(self, current: ChatgptTokens) -> AbstractAsyncContextManager[HeldStore | RefreshResult]:
        """Take the lock. A store may give what replaced these tokens instead."""
        if self._pending.tokens is None and issubclass(type(self._store), LocksUnless):
            return cast(LocksUnless, self._store).locked_unless(lambda: self._replaced_without_lock(current))
        return self._store.locked()

    async def _replaced_without_lock(self, current: ChatgptTokens) -> RefreshResult | None:
        """What another process stored instead of these tokens. None: look again under the lock."""
        stored = await self._store.load()
        if (
            not isinstance(stored, ChatgptTokens)
            or not stored.account.is_same_as(current.account)
            or stored.is_same_material_as(current)
            or await self.is_outdated(stored)
        ):
            return None
        return RefreshResult(stored, was_adopted=True)

    async def _run_locked(
        self, held: HeldStore, current: ChatgptTokens, is_usable: Callable[[], bool], progress: RefreshProgress
    ) -> RefreshResult:
        claim: OpenRefreshClaim | None = None
        try:
            if adopted := await self._newer_in_store(held, current):
                self._pending.discard()
                return adopted
            if self._pending.tokens is None:
                found = await self._sendable_claim(current, is_usable)
                could_wait = found.is_in_doubt and is_usable()
                claim = OpenRefreshClaim(found, self._clock, self._trace, could_wait=could_wait)
                await claim.record(held)
                await self._renew(held, current, claim, progress)
        except PermanentRefreshError as dead:
            progress.is_uncancellable = False
            if claim is None and (limits := _limits_of(held)) is not None:
                await limits.renew()  # or what was read may be outdated: then the token is not dead
            explained = await self._with_cause(dead)
            if explained is not dead and claim is not None:
                await claim.add_detail(held, explained.reason, explained.detail)
            raise explained from None
        return await self._pending.store(held)

    async def _newer_in_store(self, held: HeldStore, current: ChatgptTokens) -> RefreshResult | None:
        """Reload under the lock: tokens that another process stored, or None when the store still holds ours."""
        try:
            stored = await self._stored_login(held, current)
        except PermanentRefreshError:
            self._pending.discard()
            raise
        if stored.is_same_material_as(current) or self._pending.holds(stored):
            return None
        if await self.is_outdated(stored):
            message = f"{self._store.describe()} holds tokens that this program replaced, as after a restored backup"
            self._warn("outdated_tokens", f"{message}: they are not used")
            return None
        return RefreshResult(stored, was_adopted=True)

    async def _stored_login(self, store: HeldStore | CredentialStore, current: ChatgptTokens) -> ChatgptTokens:
        """What the store holds of this login. Raises PermanentRefreshError for another account, or nothing."""
        stored = await store.load()
        if not isinstance(stored, ChatgptTokens) or not stored.account.is_same_as(current.account):
            raise PermanentRefreshError(RefreshDeadReason.ACCOUNT_CHANGED)
        return stored

    async def _replacement_of(self, current: ChatgptTokens) -> RefreshResult:
        """What replaced tokens that have no refresh token. It takes no lock, because nothing is sent or written."""
        stored = await self._stored_login(self._store, current)
        if stored.is_same_material_as(current):
            raise PermanentRefreshError(RefreshDeadReason.MISSING)
        return RefreshResult(stored, was_adopted=True)

    async def _sendable_claim(self, current: ChatgptTokens, is_usable: Callable[[], bool]) -> RefreshClaim:
        """The claim on a token that may be sent.

        Raises:
            PermanentRefreshError: this process or another one found it dead or spent.
            RefreshInDoubt: it may be spent, and the access token is still usable.
        """
        token = current.refresh_token
        fingerprint = fingerprint_of(token)
        claim = await self._store.claim_on(fingerprint) or RefreshClaim(fingerprint)
        if claim.state is RefreshClaimState.DEAD:
            raise PermanentRefreshError(claim.reason or RefreshDeadReason.UNKNOWN, claim.detail)
        if claim.state is RefreshClaimState.SPENT:
            detail = f"{self._store.describe()} holds tokens that {claim.holder} replaced at {format_time(claim.at)}"
            raise PermanentRefreshError(RefreshDeadReason.EXHAUSTED, f"{detail}, as after a restored backup.")
        if token in self._spent:
            raise PermanentRefreshError(RefreshDeadReason.EXHAUSTED)
        if token in self._dead:
            raise PermanentRefreshError(self._dead[token])
        if claim.is_in_doubt and is_usable():
            doubt = claim.describe_doubt()
            raise RefreshInDoubt(doubt[:1].upper() + doubt[1:], is_new=False)
        return msgspec.structs.replace(claim, account=current.account.digest)

    async def _renew(
        self, held: HeldStore, current: ChatgptTokens, claim: OpenRefreshClaim, progress: RefreshProgress
    ) -> None:
        """Ask the issuer, and keep what it sends as pending tokens."""
        try:
            answer = await self._ask(held, current.refresh_token, claim, progress)
        except PartialRefresh as partial:
            # The old refresh token is spent: the new one is stored whatever else is missing.
            self._note_spent(current, partial.refresh_token, claim)
            rotated = msgspec.structs.replace(current, refresh_token=partial.refresh_token)
            await self._ensure_still_signed_in(held, current, claim)
            self._pending.keep(RefreshResult(rotated, was_adopted=True), claim)  # the access token is not a new one
            await self._pending.store(held)
            raise IssuerUnavailable("the issuer answered without an access token: try again") from None
        except PermanentRefreshError as dead:
            if dead.reason is RefreshDeadReason.EXHAUSTED and (stored := await self._stored_soon(held, current)):
                self._pending.keep(RefreshResult(stored, was_adopted=False), claim)
                return
            raise
        if answer.refresh_token is not None and answer.refresh_token != current.refresh_token:
            self._note_spent(current, answer.refresh_token, claim)
        await self._ensure_still_signed_in(held, current, claim)
        self._pending.keep(RefreshResult(self._merged(current, answer), was_adopted=False), claim)

    async def _ask(
        self, held: HeldStore, refresh_token: Secret, claim: OpenRefreshClaim, progress: RefreshProgress
    ) -> RefreshedTokens:
        """Send the token. End the claim if the answer brings nothing to store."""
        request = RefreshRequest(
            self._authority, self._clock, self._random, self._settings, progress, _limits_of(held), self._trace
        )
        try:
            return await request.send(refresh_token)
        except PermanentRefreshError as dead:
            self._dead[refresh_token] = dead.reason
            doubt = _describe_doubt(claim, is_lost=request.is_lost) if dead.reason in _CAUSED_BY_DOUBT else ""
            detail = " ".join(part for part in (dead.detail, doubt) if part)
            await claim.refuse(held, dead.reason, detail)
            raise PermanentRefreshError(dead.reason, detail) from None
        except (IssuerUnavailable, StoreUnavailable, CancelledError):
            await claim.end_unanswered(held, is_lost=request.is_lost)
            raise

    def _note_spent(self, current: ChatgptTokens, successor: Secret, claim: OpenRefreshClaim) -> None:
        self._spent.append(current.refresh_token)
        claim.successor = successor

    async def _ensure_still_signed_in(self, held: HeldStore, current: ChatgptTokens, claim: OpenRefreshClaim) -> None:
        """Check that the store still holds this login, before the answer is stored.

        A program that does not take our lock may sign out, or sign in with another account, while the issuer is asked.
        Storing the answer would bring the old login back. Raises PermanentRefreshError then.
        """
        try:
            await self._stored_login(held, current)
        except StoreUnavailable:
            return  # half a file, for example: it is replaced, because the new tokens exist nowhere else
        except PermanentRefreshError:
            await claim.settle(held)
            raise

    async def _stored_soon(self, held: HeldStore, current: ChatgptTokens) -> ChatgptTokens | None:
        """Wait a moment for the tokens that a program without our lock stores after it spent the refresh token."""
        for wait in self._settings.rechecks:
            await self._clock.sleep(wait)
            try:
                stored = await held.load()
            except StoreUnavailable:
                continue  # the token is dead all the same, and must not be sent again
            if (
                isinstance(stored, ChatgptTokens)
                and stored.account.is_same_as(current.account)
                and stored.refresh_token != current.refresh_token
                and not await self.is_outdated(stored)
            ):
                self._warn(
                    "foreign_refresh",
                    f"another program that does not take our lock refreshed the login of {current.account} in "
                    f"{self._store.describe()}; its tokens were adopted",
                )
                return stored
        return None

    async def _with_cause(self, dead: PermanentRefreshError) -> PermanentRefreshError:
        """The same error with its cause, if the store knows which program changed the login last."""
        if dead.detail or dead.reason not in _CAUSED_BY_OTHERS or not isinstance(self._store, ReportsLastChange):
            return dead
        try:
            change = await self._store.last_change()
        except StoreUnavailable:
            return dead
        if change is None:
            return dead
        detail = change.message
        if dead.reason is RefreshDeadReason.EXHAUSTED and not change.is_foreign:
            detail += " So a copy of this login is probably in use elsewhere: another machine, or another CODEX_HOME."
        return PermanentRefreshError(dead.reason, detail)

    def _merged(self, current: ChatgptTokens, answer: RefreshedTokens) -> ChatgptTokens:
        """The tokens after an answer. What the answer leaves out keeps its old value."""
        id_token, account = current.id_token, current.account
        if answer.id_token is not None:
            try:
                claims = read_jwt_claims(answer.id_token.reveal(), "id token")
                named = account_of(claims, account_id=account.account_id)
            except InvalidCredentials:
                self._warn("id_token_unreadable", "the issuer sent an id token that is not a JWT: the old one was kept")
            else:
                if named.is_same_as(account):
                    id_token, account = answer.id_token, named
                else:
                    message = f"the issuer sent an id token of {named} for {account}: the old one was kept"
                    self._warn("id_token_of_another_account", message)
        return ChatgptTokens(
            id_token=id_token,
            access_token=answer.access_token,
            refresh_token=answer.refresh_token or current.refresh_token,
            account=account,
            expires_at=expiry_of(answer.access_token.reveal()),
            last_refresh=storable_time(self._clock.now()),
        )


def _limits_of(held: HeldStore) -> LimitsSending | None:
    """Return the limits of a held store. A wrapper that passes on what it lacks keeps those of the store inside.

    From Python 3.12 on, `isinstance` would not find them there.
    """
    return cast(LimitsSending, held) if hasattr(held, "ensure_may_send") else None


def _describe_doubt(claim: OpenRefreshClaim, *, is_lost: bool) -> str:
    """Why a refused token may have been spent by ourselves, as a sentence; empty if that cannot be."""
    if claim.found.is_in_doubt:
        return f"Probably an earlier refresh spent it: {claim.found.describe_doubt()}."
    if is_lost:
        return "Probably this program spent it: the answer to an earlier request was lost on its way."
    return ""
