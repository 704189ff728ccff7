"""How urgent a refresh of a managed login is, by the clock alone."""

from enum import StrEnum

from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.refresh_settings import RefreshSettings


class Urgency(StrEnum):
    """How urgent a refresh is."""

    NONE = "none"
    SOON = "soon"
    """Refresh in the background. Requests use the current access token meanwhile."""
    NOW = "now"
    """Refresh before the next request."""


def spare_time(tokens: ChatgptTokens, now: float, settings: RefreshSettings) -> float:
    """How many seconds a background refresh of these tokens may still wait; 0 or less if it may not.

    If it fails at the end of that time, there is another try before requests have to wait for it.
    """
    return 0.0 if tokens.expires_at is None else tokens.expires_at - now - settings.blocking - settings.pause


def urgency_of(tokens: ChatgptTokens, now: float, settings: RefreshSettings) -> Urgency:
    """How urgent a refresh of these tokens is at `now` (seconds since the epoch). The `exp` claim decides where it
    exists.

    Tokens without a refresh token are used until they expire: an earlier refresh would bring nothing.
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


def fresh_until(tokens: ChatgptTokens, settings: RefreshSettings) -> float:
    """The time (seconds since the epoch) before which `urgency_of` is NONE."""
    if tokens.expires_at is not None:
        return tokens.expires_at - settings.window if tokens.can_refresh else tokens.expires_at
    if tokens.can_refresh and tokens.last_refresh is not None:
        return tokens.last_refresh + settings.stale_after
    return float("inf")
