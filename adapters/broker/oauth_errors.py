"""What the broker's OAuth endpoints refuse, in the form of RFC 6749, section 5.2."""

from enum import StrEnum

import msgspec

from authstate.engine.model.errors import AuthstateError


class OAuthError(StrEnum):
    """The `error` of a refusal."""

    INVALID_REQUEST = "invalid_request"
    UNSUPPORTED_GRANT_TYPE = "unsupported_grant_type"
    INVALID_GRANT = "invalid_grant"
    SLOW_DOWN = "slow_down"
    TEMPORARILY_UNAVAILABLE = "temporarily_unavailable"
    SERVER_ERROR = "server_error"


class RefusedClient(msgspec.Struct, frozen=True):
    """Who presented what was refused, as far as it is known."""

    account: str
    """The id of the account in the vault."""
    lease: str | None = None
    """The id of the lease. None for a refresh token."""


class OAuthRefusal(AuthstateError):
    """A request that is refused.

    Args:
        error: what a client acts on.
        description: for a person: what happened, and what to do. It holds no secret.
        retry_after: seconds after which it is worth trying again. None if it never is.
    """

    def __init__(self, error: OAuthError, description: str, retry_after: float | None = None) -> None:
        super().__init__(description)
        self.error = error
        self.description = description
        self.retry_after = retry_after
        self.client: RefusedClient | None = None
