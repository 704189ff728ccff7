"""The refresh protocol: everything that spends a refresh token is in this file.

Theory of operation. A refresh token works once. So exactly one flight a process, one process a machine and one machine
an account may spend it, and what it brings must be stored before anybody relies on it:

1. take the store's lock;
2. reload under the lock: other tokens of the same account mean that another process refreshed, and they are adopted
   without any network; another account, or none, is permanent, and nothing is sent or written;
3. make room in the store, while nothing is spent yet;
4. ask the issuer: tenacity retries what is transient, and nothing else. A token that it refused for good, or answered
   with another, is not sent again in the life of the process, wherever it comes from;
5. look once more: who signed out meanwhile, or in with another account, without the lock, is not undone;
6. store the answer, and only then let anybody see it.

From the moment a request is sent until its answer is stored, `critical` is true and nobody may cancel the flight. In
all other moments (waiting for the lock, waiting between two tries) it may be cancelled, and nothing is lost.
"""

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from random import Random
from typing import TYPE_CHECKING

import msgspec

from authstate.engine.credentials import ChatgptTokens, Secret, account_of, expiry_of, instant_of, read_claims
from authstate.engine.errors import (
    InvalidCredentials,
    IssuerUnavailable,
    PermanentRefreshError,
    RefreshDeadReason,
    StoreUnavailable,
)
from authstate.engine.ports import (
    ChangeWitness,
    Clock,
    CredentialStore,
    HeldStore,
    PartialRefresh,
    RefreshedTokens,
    TokenAuthority,
)

if TYPE_CHECKING:
    from tenacity import RetryCallState


_CAUSED_ELSEWHERE = (RefreshDeadReason.EXHAUSTED, RefreshDeadReason.ACCOUNT_CHANGED)
_REMEMBERED = 64  # refresh tokens: a backup that is older than so many refreshes has expired
_LOST_ANSWER = "Probably this program spent it: the answer to an earlier request was lost on its way."


class RefreshSettings(msgspec.Struct, frozen=True):
    """All the numbers of the refresh protocol, in seconds. The defaults are the product's; tests change them."""

    window: float = 300.0
    """This long before expiry, a refresh runs in the background while requests go on."""
    blocking: float = 30.0
    """This long before expiry, and after it, requests wait for the refresh."""
    stale_after: float = 8 * 86_400.0
    """For a token without `exp`: refresh when the last one is older."""
    settle: float = 60.0
    """Tokens younger than this are never refreshed proactively: a wrong clock must not turn into a storm."""
    pause: float = 30.0
    """After a transient failure, no background refresh for this long; requests get the remembered reason."""
    patience: float = 2.0
    """How long a request waits for a refresh while its token has not expired; it never waits half of what is left."""
    first_wait: float = 0.5
    longest_wait: float = 8.0
    total: float = 30.0
    """No try starts later than this after the first one."""
    rechecks: tuple[float, ...] = (0.0, 0.25, 0.75)
    """When the token was used up elsewhere: waits before looking for the tokens that the other program stores."""
    save_waits: tuple[float, ...] = (0.0, 0.1, 0.4)
    """Waits before each try to store new tokens."""
    parent_timeout: float = 10.0
    """How long a parent may take to answer (protocol of the account API)."""
    revoke_grace: float = 5.0
    """How long the end of the program waits for a revocation under way."""


class Need(StrEnum):
    """How urgent a refresh is."""

    NONE = "none"
    SOON = "soon"
    NOW = "now"


def need_of(tokens: ChatgptTokens, now: float, settings: RefreshSettings) -> Need:
    """How urgent a refresh of these tokens is at `now` (seconds since the epoch). `exp` is the truth.

    Tokens without a refresh token are used until they expire: nothing is gained by a refresh before.
    """
    if not tokens.can_refresh:
        return Need.NOW if tokens.expires_at is not None and tokens.expires_at <= now else Need.NONE
    if tokens.expires_at is not None:
        left = tokens.expires_at - now
        if left <= settings.blocking:
            return Need.NOW
        return Need.SOON if left <= settings.window else Need.NONE
    if tokens.last_refresh is not None and now - tokens.last_refresh > settings.stale_after:
        return Need.NOW
    return Need.NONE


class Renewal(msgspec.Struct, frozen=True):
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
        self._authority = authority
        self._clock = clock
        self._random = random
        self._settings = settings
        self._warn = warn
        self._hurried = False
        self._unanswered: Secret | None = None  # a refresh token that was sent, and the answer was lost
        # A restored file, a late file system or a lifted policy can bring back what was used up:
        self._dead: dict[Secret, RefreshDeadReason] = {}  # refused for good
        self._spent: deque[Secret] = deque(maxlen=_REMEMBERED)  # answered with another
        self.fault: IssuerUnavailable | None = None
        """Why the last try of the flight that is under way failed, if it did."""
        self.critical = False
        """A refresh token is being spent: do not cancel."""
        self.unsaved: Renewal | None = None
        """New tokens that the store did not take yet, and that nobody was given."""

    def hurry(self) -> None:
        """Let the flight end with the try it is in: somebody waits to sign in, sign out or end the program."""
        self._hurried = True

    def forget_unsaved(self) -> None:
        """A login or logout replaced what could not be stored."""
        self.unsaved = None

    def is_unconfirmed(self, stored: ChatgptTokens) -> bool:
        """Whether these are our own new tokens, stored but not confirmed: a power cut may take them."""
        return self.unsaved is not None and stored.is_same_material_as(self.unsaved.tokens)

    def is_outdated(self, stored: ChatgptTokens) -> bool:
        """Whether this process replaced these itself: it has newer ones of that login, or had them."""
        return stored.refresh_token in self._spent

    async def run(self, current: ChatgptTokens) -> Renewal:
        """Steps 1 to 6 for the tokens in use.

        Raises:
            PermanentRefreshError: the token is dead, or the store holds another account.
            TransientAuthError: the issuer or the store is not available just now; nothing is lost.

        Cancel it only while `critical` is false.
        """
        self._hurried = False
        self.fault = None
        if not current.can_refresh:
            return await self._replaced(current)
        try:
            async with self._store.locked() as held:
                try:
                    return await self._under_lock(held, current)
                except PermanentRefreshError as dead:
                    self.critical = False
                    raise await self._explained(dead, current) from None
        finally:
            self.critical = False

    async def _under_lock(self, held: HeldStore, current: ChatgptTokens) -> Renewal:
        if adopted := await self._found_elsewhere(held, current):
            self.forget_unsaved()
            return adopted
        if self.unsaved is None:
            if reason := self._used_up(current):
                raise PermanentRefreshError(reason)
            await held.prepare()
            self.unsaved = Renewal(await self._renewed(held, current), adopted=False)
        return await self._stored(held, self.unsaved)

    async def _replaced(self, current: ChatgptTokens) -> Renewal:
        """What took the place of tokens that cannot be refreshed. Nothing is sent or written: it takes no lock."""
        stored = await self._stored_login(self._store, current)
        if stored.is_same_material_as(current):
            raise PermanentRefreshError(RefreshDeadReason.MISSING)
        return Renewal(stored, adopted=True)

    def _used_up(self, tokens: ChatgptTokens) -> RefreshDeadReason | None:
        if self.is_outdated(tokens):
            return RefreshDeadReason.EXHAUSTED
        return self._dead.get(tokens.refresh_token)

    async def _explained(self, dead: PermanentRefreshError, current: ChatgptTokens) -> PermanentRefreshError:
        """The same error with what is known of its cause: a lost answer, or the program that changed the store last."""
        if dead.reason is RefreshDeadReason.EXHAUSTED and current.refresh_token == self._unanswered:
            return PermanentRefreshError(dead.reason, _LOST_ANSWER)
        if dead.reason not in _CAUSED_ELSEWHERE or not isinstance(self._store, ChangeWitness):
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

    async def _found_elsewhere(self, held: HeldStore, current: ChatgptTokens) -> Renewal | None:
        """Reload under the lock: tokens that another process stored, or None when the store holds ours."""
        try:
            stored = await self._stored_login(held, current)
        except PermanentRefreshError:
            self.forget_unsaved()
            raise
        if stored.is_same_material_as(current) or self.is_unconfirmed(stored):
            return None
        if self.is_outdated(stored):
            message = f"{self._store.describe()} holds tokens that this program replaced, as after a restored backup"
            self._warn("outdated_tokens", f"{message}: they were left alone")
            return None
        return Renewal(stored, adopted=True)

    async def _stored_login(self, held: HeldStore | CredentialStore, current: ChatgptTokens) -> ChatgptTokens:
        """What the store holds of this login. Raises PermanentRefreshError when that is another account, or nothing."""
        stored = await held.load()
        if not isinstance(stored, ChatgptTokens) or not stored.account.is_same_as(current.account):
            raise PermanentRefreshError(RefreshDeadReason.ACCOUNT_CHANGED)
        return stored

    async def _renewed(self, held: HeldStore, current: ChatgptTokens) -> ChatgptTokens:
        try:
            answer = await self._ask(current.refresh_token)
        except PartialRefresh as partial:
            # The old refresh token is spent: the new one is stored whatever else is missing.
            self._spent.append(current.refresh_token)
            rotated = msgspec.structs.replace(current, refresh_token=partial.refresh_token)
            await self._ensure_login_stands(held, current)
            self.unsaved = Renewal(rotated, adopted=True)  # the access token is as old as one that is found
            await self._stored(held, self.unsaved)
            raise IssuerUnavailable("the issuer answered without an access token: try again") from None
        except PermanentRefreshError as dead:
            if dead.reason is RefreshDeadReason.EXHAUSTED and (late := await self._late_arrival(held, current)):
                return late
            raise
        if answer.refresh_token not in (None, current.refresh_token):
            self._spent.append(current.refresh_token)
        await self._ensure_login_stands(held, current)
        return self._merged(current, answer)

    async def _ensure_login_stands(self, held: HeldStore, current: ChatgptTokens) -> None:
        """A program without our lock may sign out, or sign in with another account, while the issuer is asked: what is
        stored now would bring the old login back. Raises PermanentRefreshError then.
        """
        with suppress(StoreUnavailable):  # half a file, say: it is replaced, for the new tokens exist nowhere else
            await self._stored_login(held, current)

    async def _ask(self, refresh_token: Secret) -> RefreshedTokens:
        # Imported here: only a refresh needs it, and the app-server answers before that.
        from tenacity import AsyncRetrying, retry_if_exception

        began = self._clock.monotonic()

        def out_of_time(state: "RetryCallState") -> bool:
            spent = self._clock.monotonic() - began
            return self._hurried or spent + state.upcoming_sleep > self._settings.total

        retrying = AsyncRetrying(
            retry=retry_if_exception(_is_retried),
            wait=self._back_off,
            stop=out_of_time,
            sleep=self._clock.sleep,
            reraise=True,
        )
        return await retrying(self._attempt, refresh_token)

    async def _attempt(self, refresh_token: Secret) -> RefreshedTokens:
        self.critical = True
        try:
            return await self._authority.refresh(refresh_token)
        except IssuerUnavailable as error:
            self.critical = False
            self.fault = error
            if error.may_be_served:
                self._unanswered = refresh_token
            raise
        except PermanentRefreshError as dead:
            self._dead[refresh_token] = dead.reason
            raise

    def _back_off(self, state: "RetryCallState") -> float:
        """The pause that the issuer asked for, and never less than our own: it may ask for none."""
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after if isinstance(error, IssuerUnavailable) else None
        wait = min(self._settings.first_wait * 2.0 ** (state.attempt_number - 1), self._settings.longest_wait)
        return max(asked or 0.0, wait * (0.5 + self._random.random() / 2))

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
                and not self.is_outdated(stored)
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

    async def _stored(self, held: HeldStore, renewal: Renewal) -> Renewal:
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
                self.forget_unsaved()
                return renewal
        assert fault is not None
        self._warn("tokens_not_stored", f"new tokens are kept in memory until they can be stored: {fault}")
        raise fault


def _is_retried(error: BaseException) -> bool:
    return isinstance(error, IssuerUnavailable) and error.is_retried
