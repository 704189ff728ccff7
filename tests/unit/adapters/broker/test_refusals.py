"""What a client of the broker hears of an error: OAuth's code, the reason, and when to try again."""

import pytest

from authstate.adapters.broker.oauth_errors import OAuthError
from authstate.adapters.broker.refusals import refusal_of, slow_down
from authstate.engine.model.errors import (
    AuthError,
    IssuerUnavailable,
    NotSignedIn,
    PermanentRefreshError,
    RefreshDeadReason,
    StoreUnavailable,
    StoreUnreadable,
    WorkspaceForbidden,
)

LATER = OAuthError.TEMPORARILY_UNAVAILABLE


@pytest.mark.parametrize(
    ("error", "code", "retry_after"),
    [
        (PermanentRefreshError(RefreshDeadReason.REVOKED), OAuthError.INVALID_GRANT, None),
        (NotSignedIn("nobody is signed in"), OAuthError.INVALID_GRANT, None),
        (WorkspaceForbidden("another workspace"), OAuthError.INVALID_GRANT, None),
        (IssuerUnavailable("down"), LATER, 5.0),
        (IssuerUnavailable("busy", 42.0), LATER, 42.0),
        (StoreUnavailable("the disk is gone"), LATER, 5.0),
        (StoreUnreadable("half a file"), LATER, 5.0),
        (AuthError("something else"), LATER, 5.0),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, AuthError) else str(value),
)
def test_every_error(error: AuthError, code: OAuthError, retry_after: float | None) -> None:
    refusal = refusal_of(error)
    assert (refusal.error, refusal.description, refusal.retry_after) == (code, str(error), retry_after)


@pytest.mark.parametrize(
    ("wait", "said"), [(0.4, "try again"), (1.0, "try again in 1 s"), (1.6, "try again in 2 s"), (15, "in 15 s")]
)
def test_too_many_requests(wait: float, said: str) -> None:
    refusal = slow_down(wait)
    assert (refusal.error, refusal.retry_after) == (OAuthError.SLOW_DOWN, wait)
    assert refusal.description.endswith(said)
