"""The refresh protocol: everything that spends a refresh token is in this file.

Theory of operation. A refresh token works once, and an issuer may revoke the whole login when it sees one twice. So
exactly one flight a process, one process a machine and one machine an account may spend it, and what it brings must be
stored before anybody relies on it:

1. take the store's lock;
2. reload under the lock: other tokens of the same account mean that another process refreshed, and they are adopted
   without any network; another account, or none, is permanent, and nothing is sent or written;
3. look at the claim on the token (claims.py). One that is spent or dead is never sent again, by any process. One in
   doubt, because an answer was lost or a process ended in the middle, is sent again only when the access token does not
   serve any more;
4. make room in the store, and record the claim, while nothing is spent yet;
5. ask the issuer (sending.py): tenacity repeats what was certainly not processed. What may have been processed is
   repeated once, at once; then the claim becomes a doubt;
6. look once more: who signed out meanwhile, or in with another account, without the lock, is not undone;
7. store the answer, and only then let anybody see it; then the claim is settled.

From the moment a request is sent until its answer is stored, `uncancellable` is true and nobody may cancel the
flight. In all other moments (waiting for the lock, waiting between two tries) it may be cancelled, and nothing is lost.
"""

from asyncio import CancelledError
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from random import Random

import msgspec

from authstate.engine.flows.open_claim import OpenClaim
from authstate.engine.flows.refresh_request import RefreshSender
from authstate.engine.machines.claim import Claim, ClaimState, fingerprint_of, instant
from authstate.engine.model.credentials import ChatgptTokens, Secret, account_of, expiry_of, instant_of, read_claims
from authstate.engine.model.errors import (
    InvalidCredentials,
    IssuerUnavailable,
    PermanentRefreshError,
    RefreshDeadReason,
    RefreshInDoubt,
    StoreUnavailable,
)
from authstate.engine.model.refresh_settings import RefreshSettings as RefreshSettings
from authstate.engine.ports import (
    Clock,
    CredentialStore,
    HeldStore,
    PartialRefresh,
    RefreshedTokens,
    ReportsLastChange,
    TokenAuthority,
)

_CAUSED_ELSEWHERE = (RefreshDeadReason.EXHAUSTED, RefreshDeadReason.ACCOUNT_CHANGED)
_REMEMBERED = 64  # refresh tokens: a backup that is older than so many refreshes has expired
_EXPLAINED_BY_DOUBT = (RefreshDeadReason.EXHAUSTED, RefreshDeadReason.REVOKED, RefreshDeadReason.UNKNOWN)


class Urgency(StrEnum):
    """How urgent a refresh is."""

    NONE = "none"
    SOON = "soon"
    NOW = "now"


def urgency_of(tokens: ChatgptTokens, now: float, settings: RefreshSettings) -> Urgency:
    """How urgent a refresh of these tokens is at `now` (seconds since the epoch). `exp` is the truth.

    Tokens without a refresh token are used until they expire: nothing is gained by a refresh before.
    """
    if not tokens.can_refresh:
        return Urgency.NOW if tokens.expires_at is not None and tokens.expires_at <= now else Urgency.NONE
    if tokens.expires_at is not None:
        left = tokens.expires_at - now
        if left <= settings.blocking:
            return Urgency.NOW
        return Urgency.SOON if left <= settings.window else Urgency.NONE
    if tokens.last_refresh is not None and now - tokens.last_refresh > settings.stale_after:
        return Urgency.NOW
    return Urgency.NONE


class RefreshResult(msgspec.Struct, frozen=True):
    """What a flight brought: tokens that are stored already."""

    tokens: ChatgptTokens
    adopted: bool
    """They were found in the store: another process refreshed."""


class Refresher:
    """Runs the protocol. It knows no states: the engine tells it which tokens to renew, and fires what comes of it.

    Args:
        warn: called with a code and a message for the log.
    """

    def __init__(
        self,
        store: CredentialStore,
        authority: TokenAuthority,
        clock: Clock,
        random: Random,
        settings: RefreshSettings,
        warn: Callable[[str, str], None],
    ) -> None:
        self._store = store
        self._clock = clock
        self._settings = settings
        self._warn = warn
        self._sending = RefreshSender(authority, clock, random, settings)
        self._claim: OpenClaim | None = None  # on the token that was sent last
        # Claims tell other processes, and may be unwritable. This process remembers by itself:
        self._dead: dict[Secret, RefreshDeadReason] = {}  # refused for good
        self._spent: deque[Secret] = deque(maxlen=_REMEMBERED)  # answered with another
        self.pending_write: RefreshResult | None = None
        """New tokens that the store did not take yet, and that nobody was given."""

    @property
    def uncancellable(self) -> bool:
        """A refresh token is being spent: do not cancel."""
        return self._sending.is_uncancellable

    @property
    def fault(self) -> IssuerUnavailable | None:
        """Why the last try of the flight that is under way failed, if it did."""
        return self._sending.fault

    def stop_retrying(self) -> None:
        """Let the flight end with the try it is in: somebody waits to sign in, sign out or end the program."""
        self._sending.is_stopping = True

    def clear_pending_write(self) -> None:
        """A login or logout replaced what could not be stored."""
        self.pending_write = None

    def is_unconfirmed(self, stored: ChatgptTokens) -> bool:
        """Whether these are our own new tokens, stored but not confirmed: a power cut may take them."""
        return self.pending_write is not None and stored.is_same_material_as(self.pending_write.tokens)

    async def is_outdated(self, stored: ChatgptTokens) -> bool:
        """Whether these were replaced: this process or another one has newer ones of that login, or had them."""
        if stored.refresh_token in self._spent:
            return True
        with suppress(StoreUnavailable):
            claim = await self._store.claim_on(fingerprint_of(stored.refresh_token))
            return claim is not None and claim.state is ClaimState.SPENT
        return False

    async def run(self, current: ChatgptTokens, serves: Callable[[], bool] = lambda: False) -> RefreshResult:
        """Steps 1 to 7 for the tokens in use.

        Args:
            serves: whether their access token is still good to use: then a token in doubt is not sent.

        Raises:
            PermanentRefreshError: the token is dead, or the store holds another account.
            TransientAuthError: the issuer or the store is not available just now; nothing is lost.

        Cancel it only while `uncancellable` is false.
        """
        self._sending.begin()
        if not current.can_refresh:
            return await self._replaced(current)
        try:
            async with self._store.locked() as held:
                try:
                    return await self._under_lock(held, current, serves)
                except PermanentRefreshError as dead:
                    self._sending.is_uncancellable = False
                    explained = await self._explained(dead, current)
                    if explained is not dead and self._claim is not None:
                        await self._claim.explain(held, explained.reason, explained.detail)
                    raise explained from None
        finally:
            self._sending.is_uncancellable = False
            if self.pending_write is None:
                self._claim = None

    async def _under_lock(self, held: HeldStore, current: ChatgptTokens, serves: Callable[[], bool]) -> RefreshResult:
        if adopted := await self._found_elsewhere(held, current):
            self.clear_pending_write()
            return adopted
        if self.pending_write is None:
            self._claim = OpenClaim(await self._sendable(current, serves), self._clock)
            await held.prepare()
            await self._claim.take(held)
            self.pending_write = RefreshResult(await self._renewed(held, current, self._claim), adopted=False)
        return await self._stored(held, self.pending_write)

    async def _sendable(self, current: ChatgptTokens, serves: Callable[[], bool]) -> Claim:
        """The claim on a token that may be sent.

        Raises:
            PermanentRefreshError: it is dead or spent, as this process or another one found.
            RefreshInDoubt: it may be spent, and the access token still serves.
        """
        token = current.refresh_token
        fingerprint = fingerprint_of(token)
        claim = await self._store.claim_on(fingerprint) or Claim(fingerprint)
        if claim.state is ClaimState.DEAD:
            raise PermanentRefreshError(claim.reason or RefreshDeadReason.UNKNOWN, claim.detail)
        if claim.state is ClaimState.SPENT:
            detail = f"{self._store.describe()} holds tokens that {claim.holder} replaced at {instant(claim.at)}"
            raise PermanentRefreshError(RefreshDeadReason.EXHAUSTED, f"{detail}, as after a restored backup.")
        if token in self._spent:
            raise PermanentRefreshError(RefreshDeadReason.EXHAUSTED)
        if token in self._dead:
            raise PermanentRefreshError(self._dead[token])
        if claim.is_in_doubt and serves():
            raise RefreshInDoubt(_sentence(claim), is_new=False)
        return claim

    async def _replaced(self, current: ChatgptTokens) -> RefreshResult:
        """What took the place of tokens that cannot be refreshed. Nothing is sent or written: it takes no lock."""
        stored = await self._stored_login(self._store, current)
        if stored.is_same_material_as(current):
            raise PermanentRefreshError(RefreshDeadReason.MISSING)
        return RefreshResult(stored, adopted=True)

    async def _explained(self, dead: PermanentRefreshError, current: ChatgptTokens) -> PermanentRefreshError:
        """The same error with what is known of its cause: a lost answer, or the program that changed the store last."""
        if dead.detail:
            return dead
        if dead.reason not in _CAUSED_ELSEWHERE or not isinstance(self._store, ReportsLastChange):
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

    async def _found_elsewhere(self, held: HeldStore, current: ChatgptTokens) -> RefreshResult | None:
        """Reload under the lock: tokens that another process stored, or None when the store holds ours."""
        try:
            stored = await self._stored_login(held, current)
        except PermanentRefreshError:
            self.clear_pending_write()
            raise
        if stored.is_same_material_as(current) or self.is_unconfirmed(stored):
            return None
        if await self.is_outdated(stored):
            message = f"{self._store.describe()} holds tokens that this program replaced, as after a restored backup"
            self._warn("outdated_tokens", f"{message}: they were left alone")
            return None
        return RefreshResult(stored, adopted=True)

    async def _stored_login(self, held: HeldStore | CredentialStore, current: ChatgptTokens) -> ChatgptTokens:
        """What the store holds of this login. Raises PermanentRefreshError when that is another account, or nothing."""
        stored = await held.load()
        if not isinstance(stored, ChatgptTokens) or not stored.account.is_same_as(current.account):
            raise PermanentRefreshError(RefreshDeadReason.ACCOUNT_CHANGED)
        return stored

    async def _renewed(self, held: HeldStore, current: ChatgptTokens, claim: OpenClaim) -> ChatgptTokens:
        try:
            answer = await self._ask(held, current.refresh_token, claim)
        except PartialRefresh as partial:
            # The old refresh token is spent: the new one is stored whatever else is missing.
            self._note_spent(current, claim)
            rotated = msgspec.structs.replace(current, refresh_token=partial.refresh_token)
            await self._ensure_login_stands(held, current, claim)
            self.pending_write = RefreshResult(rotated, adopted=True)  # the access token is as old as one that is found
            await self._stored(held, self.pending_write)
            raise IssuerUnavailable("the issuer answered without an access token: try again") from None
        except PermanentRefreshError as dead:
            if dead.reason is RefreshDeadReason.EXHAUSTED and (late := await self._late_arrival(held, current)):
                return late
            raise
        if answer.refresh_token not in (None, current.refresh_token):
            self._note_spent(current, claim)
        await self._ensure_login_stands(held, current, claim)
        return self._merged(current, answer)

    def _note_spent(self, current: ChatgptTokens, claim: OpenClaim) -> None:
        self._spent.append(current.refresh_token)
        claim.brought_another = True

    async def _ensure_login_stands(self, held: HeldStore, current: ChatgptTokens, claim: OpenClaim) -> None:
        """A program without our lock may sign out, or sign in with another account, while the issuer is asked: what is
        stored now would bring the old login back. Raises PermanentRefreshError then.
        """
        try:
            await self._stored_login(held, current)
        except StoreUnavailable:
            return  # half a file, say: it is replaced, for the new tokens exist nowhere else
        except PermanentRefreshError:
            await claim.settle(held)
            raise

    async def _ask(self, held: HeldStore, refresh_token: Secret, claim: OpenClaim) -> RefreshedTokens:
        """Send the token, and end the claim where that brings nothing to store."""
        try:
            return await self._sending.send(refresh_token)
        except PermanentRefreshError as dead:
            self._dead[refresh_token] = dead.reason
            cause = self._doubt(claim) if dead.reason in _EXPLAINED_BY_DOUBT else ""
            detail = " ".join(part for part in (dead.detail, cause) if part)
            await claim.refuse(held, dead.reason, detail)
            raise PermanentRefreshError(dead.reason, detail) from None
        except (IssuerUnavailable, CancelledError):
            await claim.give_up(held, is_lost=self._sending.is_lost)
            raise

    def _doubt(self, claim: OpenClaim) -> str:
        """Why a token that is refused may have been spent by ourselves, as a sentence; nothing where it cannot be."""
        if claim.found.is_in_doubt:
            return f"Probably an earlier refresh spent it: {claim.found.describe_doubt()}."
        if self._sending.is_lost:
            return "Probably this program spent it: the answer to an earlier request was lost on its way."
        return ""

    async def _late_arrival(self, held: HeldStore, current: ChatgptTokens) -> ChatgptTokens | None:
        """Tokens that a program without our lock stores just after it spent the refresh token."""
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

    def _merged(self, current: ChatgptTokens, answer: RefreshedTokens) -> ChatgptTokens:
        """The tokens after an answer: a member that is left out keeps its old value."""
        id_token, account = current.id_token, current.account
        if answer.id_token is not None:
            try:
                claims = read_claims(answer.id_token.reveal(), "id token")
                named = account_of(claims, account_id=account.account_id)
            except InvalidCredentials:
                self._warn("id_token_unreadable", "the issuer sent an id token that is no JWT: the old one was kept")
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
            last_refresh=instant_of(self._clock.now()),
        )

    async def _stored(self, held: HeldStore, renewal: RefreshResult) -> RefreshResult:
        """Store new tokens, with a few tries: the old refresh token is spent, and these exist nowhere else."""
        fault: StoreUnavailable | None = None
        for wait in self._settings.save_waits:
            if wait:
                await self._clock.sleep(wait)
            try:
                await held.save(renewal.tokens)
            except StoreUnavailable as error:
                fault = error
            else:
                self.clear_pending_write()
                assert self._claim is not None, "what is stored was sent for"
                await self._claim.settle(held)
                return renewal
        assert fault is not None
        self._warn("tokens_not_stored", f"new tokens are kept in memory until they can be stored: {fault}")
        raise fault


def _sentence(claim: Claim) -> str:
    clause = claim.describe_doubt()
    return clause[:1].upper() + clause[1:]
