"""Why the broker refuses a token: what happened in the engine or in a store, in OAuth's form."""

from authstate.adapters.broker.oauth_errors import OAuthError, OAuthRefusal
from authstate.engine.model.errors import (
    AuthError,
    NotSignedIn,
    PermanentRefreshError,
    PolicyViolation,
    TransientAuthError,
)

TRY_AGAIN = 5.0
"""Seconds after which a client may ask again, unless something better is known."""


def slow_down(wait: float) -> OAuthRefusal:
    """Return the refusal for too many requests. The next one is possible after `wait` seconds."""
    said = f"too many requests: try again in {wait:.0f} s" if wait >= 1 else "too many requests: try again"
    return OAuthRefusal(OAuthError.SLOW_DOWN, said, retry_after=wait)


def refusal_of(error: AuthError) -> OAuthRefusal:
    """Return the refusal for an error of the engine or of a store."""
    if isinstance(error, PermanentRefreshError | NotSignedIn | PolicyViolation):
        return OAuthRefusal(OAuthError.INVALID_GRANT, str(error))
    retry_after = getattr(error, "retry_after", None)
    if isinstance(error, TransientAuthError):
        return OAuthRefusal(OAuthError.TEMPORARILY_UNAVAILABLE, str(error), retry_after or TRY_AGAIN)
    return OAuthRefusal(OAuthError.TEMPORARILY_UNAVAILABLE, str(error), TRY_AGAIN)
