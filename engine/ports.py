"""The Protocols that adapters implement. The engine reaches the world only through these."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar, runtime_checkable

import msgspec

from authstate.engine.machines.refresh_claim import RefreshClaim
from authstate.engine.model.account import Account
from authstate.engine.model.credentials import Credentials, ExternalTokens
from authstate.engine.model.errors import AuthstateError
from authstate.engine.model.secret import Secret

T = TypeVar("T")


class Clock(Protocol):
    """Time. Tests move it by hand, so no test has to sleep."""

    def now(self) -> float:
        """Seconds since the epoch by the wall clock. It may be wrong, and it may jump."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start. It never jumps: use it for every duration."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after that many seconds of the monotonic clock. Cancellation ends the wait."""


class HeldStore(Protocol):
    """A store whose lock this task holds. Writing and deleting is possible only here.

    What writes runs to its end. If the caller is cancelled meanwhile, it gets the result, and the cancellation at its
    next await: so it can note what was done.
    """

    async def load(self) -> Credentials | None:
        """Read what is stored now. Raises StoreUnavailable or StoreUnreadable."""
        ...

    async def prepare(self) -> None:
        """Check, before a token is spent, that `save` will succeed as far as can be known (space, permission).

        Raises StoreUnavailable: then nothing is lost.
        """

    async def save(self, credentials: Credentials) -> None:
        """Replace what is stored, atomically and durably.

        A reader sees either the old or the new content, complete. Once this returns, a crash does not lose the new
        content. Raises StoreUnavailable: then the old content is still there.
        """

    async def delete(self) -> None:
        """Remove what is stored, whatever it is. An empty store is not an error. Raises StoreUnavailable."""

    async def record(self, claim: RefreshClaim) -> None:
        """Write a claim beside what is stored. It replaces an earlier claim on the same token; a free claim is removed.

        Once this returns, a crash does not lose the claim. The store notes this process as its holder, and keeps at
        least the last 64 claims. Raises StoreUnavailable: then the claim may or may not be written.
        """


@runtime_checkable
class CombinesWrites(Protocol):
    """A held store that does what a refresh writes in two steps instead of four. A step may cost a change of threads.

    What `HeldStore` says of writes and cancellation is true of these. The class must define both: methods that only
    `__getattr__` finds are not used, because a wrapper with a `save` of its own would be bypassed.
    """

    async def prepare_and_record(self, claim: RefreshClaim) -> None:
        """Do `prepare`, then `record`. Raises StoreUnavailable: then the claim may or may not be written."""

    async def save_and_record(self, credentials: Credentials, claim: RefreshClaim) -> None:
        """Do `save`, then `record`.

        Raises StoreUnavailable: the credentials are not saved, and the claim is not written. A claim that cannot be
        written after the save raises nothing.
        """


@runtime_checkable
class LimitsSending(Protocol):
    """A held store whose lock ends by itself, after a time. So a token may be sent only within that time.

    Machines that share a database cannot know whether a holder has ended or only pauses. After the time of its lock,
    another process may send the token; so this one must not.
    """

    async def renew(self) -> None:
        """Keep the lock for long enough to send a token and receive the answer.

        Raises StoreBusy if somebody else took the lock, and StoreUnavailable.
        """

    def ensure_may_send(self) -> None:
        """Return if a token that is sent now is answered within the time of the lock. Raises NotSentInTime.

        Called at the last moment before a token is written to the network. Looks only at a clock of this machine.
        """


class CredentialStore(Protocol):
    """Where credentials live between processes."""

    def describe(self) -> str:
        """The place, as a person knows it: a path, or the name of a keyring entry."""
        ...

    async def load(self) -> Credentials | None:
        """Read what is stored, without taking the lock. None if the store is empty.

        Raises StoreUnavailable (cannot be read just now) or StoreUnreadable (corrupt or foreign). It may be cancelled.
        """
        ...

    async def claim_on(self, fingerprint: str) -> RefreshClaim | None:
        """The claim on a refresh token. None if the token was never sent, or if its claim was removed since.

        Claims that cannot be understood count as none. Raises StoreUnavailable. It may be cancelled.
        """
        ...

    def locked(self) -> AbstractAsyncContextManager[HeldStore]:
        """Take the lock that every process and machine that shares this store takes before it writes.

        Entering waits for a bounded time. It raises StoreBusy after that, and StoreUnavailable if no lock is possible.
        The lock ends with its process. Cancellation while waiting leaves no lock behind.
        """
        ...


@runtime_checkable
class LocksUnless(Protocol):
    """What a `CredentialStore` may also offer: to end the wait for its lock once the lock is not needed any more.

    Where many machines refresh one login at once, one does so, and all others find its tokens without a write. The
    class must define it, as with `CombinesWrites`.
    """

    def locked_unless(self, find: Callable[[], Awaitable[T | None]]) -> AbstractAsyncContextManager[HeldStore | T]:
        """Take the lock, as `locked` does, unless `find` finds something first.

        Args:
            find: called before the lock is tried, and again whenever the stored login may have changed since. What it
                raises ends the wait.

        Returns:
            What gives the held store, or what was found: then nothing is locked. Raises what `locked` raises.
        """
        ...


class LastChange(msgspec.Struct, frozen=True):
    """The last change of what is stored, as far as the store knows."""

    message: str
    """A sentence for a person: what changed, when, and by whom."""
    is_foreign: bool
    """A program that does not take the store's lock made it."""


@runtime_checkable
class ReportsLastChange(Protocol):
    """What a `CredentialStore` may also offer: who changed what is stored. It makes errors clearer."""

    async def last_change(self) -> LastChange | None:
        """The last change, None if it is not known. Raises StoreUnavailable. Safe to cancel."""
        ...


@runtime_checkable
class HasRevision(Protocol):
    """What a `CredentialStore` may also offer: a cheap way to see whether what is stored may have changed."""

    def revision(self) -> object:
        """A value that changes whenever the stored login may have changed. It may change just before the login does.

        None if nothing is known. It costs at most the status of two files, and raises nothing.
        """
        ...


@runtime_checkable
class FollowsSelection(Protocol):
    """What a `CredentialStore` may also offer: it keeps the login of an account that somebody can exchange for another.

    The engine says when it changes over: not while a refresh is under way or new tokens wait to be stored, and only
    once it has read the login of the other account.
    """

    def selected_store(self) -> CredentialStore | None:
        """The store of the account that is selected now. None if it is in use already. Blocks briefly; raises nothing.

        Every call returns the same object for an account.
        """
        ...

    def use_store(self, store: CredentialStore) -> None:
        """From here on, keep the login of the account with this store, which `selected_store` returned."""


class RefreshedTokens(msgspec.Struct, frozen=True):
    """What the issuer answered. A member that is None keeps its old value."""

    access_token: Secret
    refresh_token: Secret | None = None
    id_token: Secret | None = None


class TokenAuthority(Protocol):
    """The issuer's token endpoint."""

    async def refresh(self, refresh_token: Secret) -> RefreshedTokens:
        """Spend a refresh token, in one request.

        Raises:
            PermanentRefreshError: the issuer refused the token for good.
            PartialRefresh: a new refresh token came without an access token.
            IssuerUnavailable: everything else. Its `delivery` tells what became of the request.

        The caller never cancels it.
        """
        ...

    async def revoke(self, refresh_token: Secret) -> None:
        """Ask the issuer to revoke a refresh token. Raises IssuerUnavailable; callers treat it as best effort.

        It is cancelled if the program ends before it.
        """


@runtime_checkable
class ChecksBeforeSending(Protocol):
    """What a `TokenAuthority` may also offer: to check, at the last moment, whether a refresh token may still be sent.

    Without it, the check is made before `refresh` is called, so a pause while it connects is not noticed.
    """

    async def refresh_if(self, refresh_token: Secret, ensure_may_send: Callable[[], None]) -> RefreshedTokens:
        """Do what `refresh` does. Call `ensure_may_send` once the connection stands, right before the token is written.

        Raises what `ensure_may_send` raises, NotSentInTime: then nothing was written.
        """
        ...


@runtime_checkable
class IdentifiesTokens(Protocol):
    """What a `TokenAuthority` may also offer: to say whose a personal access token is.

    Without it, the workspace is not known, and `Policy.forced_workspaces` forbids every personal access token.
    """

    async def identify(self, token: Secret) -> Account:
        """Return the owner of a personal access token.

        Raises:
            TokenRefused: the issuer does not accept the token.
            IssuerUnavailable: everything else.

        It may be cancelled: nothing is spent.
        """
        ...


class RefreshPacer(Protocol):
    """Chooses when a background refresh begins, so that the refreshes of many engines do not begin at one instant."""

    def pace(self, seconds: float, begin: Callable[[], None]) -> Callable[[], None]:
        """Call `begin` once, later than this call returns and within about `seconds`. Raises nothing.

        Args:
            seconds: how long the refresh may wait. 0 or less: begin as soon as possible.
            begin: begins the refresh. It does not block and raises nothing.

        Returns:
            A function that withdraws the request. It may be called at any time, and again.
        """
        ...


class PartialRefresh(AuthstateError):
    """The issuer rotated the refresh token but sent no access token. The new refresh token must be stored."""

    def __init__(self, refresh_token: Secret) -> None:
        super().__init__("the issuer answered without an access token")
        self.refresh_token = refresh_token


class ExternalTokenSource(Protocol):
    """The parent application, which owns the tokens in external mode."""

    async def request_tokens(self, *, previous_account_id: str | None) -> ExternalTokens:
        """Return new tokens, because the backend answered 401.

        Raises ParentUnavailable or InvalidCredentials. The engine cancels it after 10 s.
        """
        ...
