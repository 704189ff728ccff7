"""Faults that a test orders: one API for the issuer in memory and the one on loopback."""

from typing import Any, Final, Literal, Protocol

from authstate.adapters.testing.fake_authority import FakeAuthority
from authstate.adapters.testing.fake_backend import FakeBackend
from authstate.adapters.testing.transcript import REASONS
from authstate.engine.model.errors import Delivery, IssuerUnavailable, RefreshDeadReason

Where = Literal["issuer", "backend"]

_HOUR: Final = 3600.0
_CODES: Final = {RefreshDeadReason(reason): code for code, reason in REASONS.items()}
"""The reasons that an issuer can give, and its error codes."""


class Faults(Protocol):
    """What can go wrong at an issuer and a backend. Each fault counts from the call on."""

    def expire(self) -> None:
        """Let the backend answer 401 to every access token that exists. A refresh brings a good one."""
        ...

    def revoke(self) -> None:
        """Sign everybody out elsewhere: the issuer refuses every refresh token that exists, as revoked."""
        ...

    def refuse(self, reason: RefreshDeadReason | str = RefreshDeadReason.UNKNOWN) -> None:
        """Let the issuer refuse every refresh token that exists.

        Args:
            reason: `expired`, `exhausted`, `revoked` or `unknown`.

        Raises:
            ValueError: an issuer gives no such reason.
        """
        ...

    def lose_answer(self, times: int = 1) -> None:
        """Let the next refreshes be served, but their answers be lost: each refresh token is spent.

        The engine sends a token whose answer is lost once more. With `times=1`, the issuer refuses it then, because it
        is spent. With `times=2`, the engine knows no more than that the token may be spent (`RefreshInDoubt`).

        Args:
            times: the number of answers, at least 1.
        """
        ...

    def delay(self, seconds: float) -> None:
        """Let every answer to a refresh take so long, until `clear`.

        Args:
            seconds: of the manual clock in memory, of real time on loopback.
        """
        ...

    def be_down(self, where: Where = "issuer") -> None:
        """Let every request be answered with 503, until `clear`. Nothing is spent.

        The issuer asks to wait for an hour. An engine does not wait so long: its refresh fails at once.

        Args:
            where: the issuer's refreshes and revocations, or the backend.
        """
        ...

    def clear(self) -> None:
        """End `delay`, `be_down` and what is left of `lose_answer`. Tokens that were refused stay refused."""
        ...


class FaultsInMemory:
    """Faults of an issuer and a backend in memory. See `Faults`.

    Args:
        authority: the issuer.
        backend: the backend.
    """

    def __init__(self, authority: FakeAuthority, backend: FakeBackend) -> None:
        self._authority = authority
        self._backend = backend

    def expire(self) -> None:
        """See `Faults`."""
        self._backend.expire_access()

    def revoke(self) -> None:
        """See `Faults`."""
        self._authority.kill(RefreshDeadReason.REVOKED)

    def refuse(self, reason: RefreshDeadReason | str = RefreshDeadReason.UNKNOWN) -> None:
        """See `Faults`."""
        self._authority.kill(_reason(reason))

    def lose_answer(self, times: int = 1) -> None:
        """See `Faults`."""
        _ensure_positive(times)
        self._authority.lose_next(times)

    def delay(self, seconds: float) -> None:
        """See `Faults`."""
        self._authority.delay = seconds

    def be_down(self, where: Where = "issuer") -> None:
        """See `Faults`."""
        if _is_backend(where):
            self._backend.is_down = True
        else:
            message = "the issuer answers 503, as the test ordered"
            self._authority.outage = IssuerUnavailable(message, _HOUR, delivery=Delivery.NOT_PROCESSED)

    def clear(self) -> None:
        """See `Faults`."""
        self._authority.outage, self._authority.delay, self._backend.is_down = None, 0.0, False
        self._authority.lose_next(0)


class LoopbackControl(Protocol):
    """The methods of `LoopbackIssuer` that order faults."""

    def expire_access(self) -> None: ...
    def revoke(self, code: str = ...) -> None: ...
    def behave(self, endpoint: str = ..., **behaviour: Any) -> None: ...


class LoopbackFaults:
    """Faults of the issuer and the backend on loopback. See `Faults`.

    Args:
        issuer: the issuer. It must have been started.
    """

    def __init__(self, issuer: LoopbackControl) -> None:
        self._issuer = issuer

    def expire(self) -> None:
        """See `Faults`."""
        self._issuer.expire_access()

    def revoke(self) -> None:
        """See `Faults`."""
        self._issuer.revoke()

    def refuse(self, reason: RefreshDeadReason | str = RefreshDeadReason.UNKNOWN) -> None:
        """See `Faults`."""
        self._issuer.revoke(_CODES[_reason(reason)])

    def lose_answer(self, times: int = 1) -> None:
        """See `Faults`."""
        _ensure_positive(times)
        self._issuer.behave("refresh", mode="lost", times=times)

    def delay(self, seconds: float) -> None:
        """See `Faults`."""
        self._issuer.behave("refresh", mode="normal", delay=seconds)

    def be_down(self, where: Where = "issuer") -> None:
        """See `Faults`."""
        for endpoint in ("backend", "model") if _is_backend(where) else ("refresh", "revoke"):
            self._issuer.behave(endpoint, mode="status", status=503, retry_after=_HOUR)

    def clear(self) -> None:
        """See `Faults`."""
        for endpoint in ("refresh", "revoke", "backend", "model"):
            self._issuer.behave(endpoint)


def _reason(reason: RefreshDeadReason | str) -> RefreshDeadReason:
    if reason not in _CODES:
        raise ValueError(f"an issuer gives no reason {str(reason)!r}: use one of {', '.join(_CODES)}")
    return RefreshDeadReason(reason)


def _is_backend(where: Where) -> bool:
    if where not in ("issuer", "backend"):
        raise ValueError(f"where must be 'issuer' or 'backend', and is {where!r}")
    return where == "backend"


def _ensure_positive(times: int) -> None:
    if times < 1:
        raise ValueError(f"times must be at least 1, and is {times}")
