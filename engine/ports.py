"""The Protocols that adapters fill. The engine knows the world only through these."""

from contextlib import AbstractAsyncContextManager
from typing import Protocol, runtime_checkable

import msgspec

from authstate.engine.machines.claim import Claim
from authstate.engine.model.credentials import Credentials, ExternalTokens, Secret
from authstate.engine.model.errors import FreshError


class Clock(Protocol):
    """Time. Tests turn it by hand, so no test sleeps to wait for time to pass."""

    def now(self) -> float:
        """Seconds since the epoch, as the wall clock has it: it may be wrong, and jump."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start: it never jumps. For every duration."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after that many seconds of the monotonic clock. Cancellation ends the wait."""


class HeldStore(Protocol):
    """A store whose lock this task holds. Only this can write and delete."""

    async def load(self) -> Credentials | None:
        """What is stored now. Raises StoreUnavailable or StoreUnreadable."""
        ...

    async def prepare(self) -> None:
        """Make as sure as can be that `save` will succeed (space, permission), before a token is spent.

        Raises StoreUnavailable: then nothing was sent and nothing is lost.
        """

    async def save(self, credentials: Credentials) -> None:
        """Replace what is stored, atomically and durably: when this returns, a crash keeps the new, and a reader at
        any moment saw the old or the new, whole. Raises StoreUnavailable: then the old is still there.
        """

    async def delete(self) -> None:
        """Remove what is stored, whatever it is. Nothing stored is no error. Raises StoreUnavailable."""

    async def record(self, claim: Claim) -> None:
        """Keep a claim beside what is stored, in place of an earlier one on the same token: when this returns, a crash
        keeps it. A free one is forgotten. The store notes the process as its holder, and keeps at least the last 64.

        Raises StoreUnavailable: then nothing is known of it.
        """


class CredentialStore(Protocol):
    """Where credentials live between processes."""

    def describe(self) -> str:
        """The place, for a person: a path, or the name of a keyring entry."""
        ...

    async def load(self) -> Credentials | None:
        """What is stored, without taking the lock; None when there is nothing.

        Raises StoreUnavailable (cannot be read just now) or StoreUnreadable (corrupt or foreign).
        """
        ...

    async def claim_on(self, fingerprint: str) -> Claim | None:
        """What is known of a refresh token; None when it was never sent, or so long ago that it is forgotten.

        What is kept of claims and cannot be understood counts as nothing. Raises StoreUnavailable.
        """
        ...

    def locked(self) -> AbstractAsyncContextManager[HeldStore]:
        """Take the lock that every process and machine sharing this store takes before it writes.

        Entering waits, bounded, and raises StoreBusy after that, StoreUnavailable when there can be no lock. The lock
        is gone when its process dies. Cancellation while waiting leaves no lock behind.
        """
        ...


class LastChange(msgspec.Struct, frozen=True):
    """The last change of what is stored, as far as the store can tell."""

    message: str
    """A sentence for a person: which place, when, by whom."""
    is_foreign: bool
    """It was made by a program that does not take the store's lock."""


@runtime_checkable
class ReportsLastChange(Protocol):
    """What a `CredentialStore` may offer besides: it knows who changed what is stored. It makes errors clearer."""

    async def last_change(self) -> LastChange | None:
        """The last change; None when that is not known. Raises StoreUnavailable. Safe to cancel."""
        ...


@runtime_checkable
class HasRevision(Protocol):
    """What a `CredentialStore` may offer besides: a cheap look whether what is stored can have changed."""

    def revision(self) -> object:
        """Other after every change, the same while there is none. A sign of a change may come just before it. Costs no
        more than a look at two files, and raises nothing; None when nothing is known.
        """
        ...


class RefreshedTokens(msgspec.Struct, frozen=True):
    """What the issuer answered: a member that is None keeps its old value."""

    access_token: Secret
    refresh_token: Secret | None = None
    id_token: Secret | None = None


class TokenAuthority(Protocol):
    """The issuer's token endpoint."""

    async def refresh(self, refresh_token: Secret) -> RefreshedTokens:
        """Spend a refresh token, in one request.

        Raises PermanentRefreshError when the issuer refused it for good, IssuerUnavailable for everything else, whose
        `delivery` tells what became of the request, and PartialRefresh when a new refresh token came without an access
        token. The caller never cancels it.
        """
        ...

    async def revoke(self, refresh_token: Secret) -> None:
        """Ask the issuer to forget a refresh token. Raises IssuerUnavailable; the caller treats it as best effort."""


class PartialRefresh(FreshError):
    """The issuer rotated the refresh token but sent no access token: the new refresh token must be kept."""

    def __init__(self, refresh_token: Secret) -> None:
        super().__init__("the issuer answered without an access token")
        self.refresh_token = refresh_token


class ExternalTokenSource(Protocol):
    """The parent application that owns the tokens in external mode."""

    async def request_tokens(self, *, previous_account_id: str | None) -> ExternalTokens:
        """Ask for new tokens because the backend answered 401.

        Raises ParentUnavailable or InvalidCredentials. The engine gives up after 10 s and cancels the question.
        """
        ...
