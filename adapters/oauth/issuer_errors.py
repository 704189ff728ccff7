"""What an issuer's answer to a refresh means, as one table of error codes and one of statuses.

The codes are those of RFC 6749 (section 5.2), of OpenID Connect, and of the issuers in the field. A code that is in the
table decides; the status decides on all others. So `invalid_client` is no dead token, though it comes with status 401,
and `invalid_grant` is one, though it comes with status 400.
"""

from typing import Final

import msgspec

from authstate.engine.model.errors import Delivery, RefreshDeadReason


class Dead(msgspec.Struct, frozen=True):
    """The refresh token is dead. `detail` is a sentence for the person."""

    reason: RefreshDeadReason
    detail: str = ""


class NoHelp(msgspec.Struct, frozen=True):
    """Neither a retry nor a sign-in helps. `remedy` says what does, after a colon."""

    remedy: str


class Later(msgspec.Struct, frozen=True):
    """The issuer did not process the request, and will later."""


Verdict = Dead | NoHelp | Later

_EXPIRED, _EXHAUSTED = Dead(RefreshDeadReason.EXPIRED), Dead(RefreshDeadReason.EXHAUSTED)
_REVOKED = Dead(RefreshDeadReason.REVOKED)
_CLOSED = Dead(
    RefreshDeadReason.REVOKED, "The account is closed or suspended: ask the administrator or the issuer's support."
)
_UNNAMED = Dead(RefreshDeadReason.UNKNOWN)
_CLIENT = NoHelp(
    "it does not accept this client: check CODEX_APP_SERVER_LOGIN_CLIENT_ID and CODEX_APP_SERVER_LOGIN_ISSUER, or "
    "unset them"
)
_REQUEST = NoHelp(
    "it does not understand the request: check CODEX_REFRESH_TOKEN_URL_OVERRIDE and CODEX_APP_SERVER_LOGIN_ISSUER, or "
    "update authstate"
)
_PLACE = NoHelp("it does not serve the country or network that you come from: use another network, VPN or proxy")
_RULE = NoHelp("a rule of your organization forbids it: ask your administrator")

CODES: Final[dict[str, Verdict]] = {
    # The refresh token is dead.
    "refresh_token_expired": _EXPIRED,
    "token_expired": _EXPIRED,
    "expired_token": _EXPIRED,
    "session_expired": _EXPIRED,
    "refresh_token_reused": _EXHAUSTED,
    "refresh_token_already_used": _EXHAUSTED,
    "refresh_token_invalidated": _REVOKED,
    "refresh_token_revoked": _REVOKED,
    "token_invalidated": _REVOKED,
    "token_revoked": _REVOKED,
    "session_invalidated": _REVOKED,
    "session_terminated": _REVOKED,
    "account_deactivated": _CLOSED,
    "account_suspended": _CLOSED,
    "account_deleted": _CLOSED,
    "user_deactivated": _CLOSED,
    "user_suspended": _CLOSED,
    "deactivated_workspace": _CLOSED,
    "invalid_grant": _UNNAMED,
    "invalid_refresh_token": _UNNAMED,
    "invalid_token": _UNNAMED,
    "invalid_value": _UNNAMED,
    "login_required": _UNNAMED,
    "interaction_required": _UNNAMED,
    "consent_required": _UNNAMED,
    "account_selection_required": _UNNAMED,
    # Neither a retry nor a sign-in helps.
    "unsupported_country_region_territory": _PLACE,
    "ip_not_authorized": _PLACE,
    "invalid_client": _CLIENT,
    "unauthorized_client": _CLIENT,
    "invalid_request": _REQUEST,
    "invalid_scope": _REQUEST,
    "unsupported_grant_type": _REQUEST,
    "access_denied": _RULE,
    # The issuer does it later.
    "rate_limit_exceeded": Later(),
    "too_many_requests": Later(),
    "slow_down": Later(),
    "temporarily_unavailable": Later(),
}
"""What each code means, in lower case."""

STATUSES: Final[dict[int, Delivery]] = {
    408: Delivery.UNKNOWN,
    425: Delivery.NOT_PROCESSED,
    429: Delivery.NOT_PROCESSED,
    503: Delivery.NOT_PROCESSED,
}
"""What became of a request that got one of these statuses, where the code does not tell."""


def delivery_of(status: int) -> Delivery:
    """What became of a request that got this status, and no code that is known.

    A gateway may give up on an issuer that goes on: so all of 5xx but 503 leave it unknown, and a 2xx without tokens
    does. A redirect or another 4xx would come again.
    """
    if status in STATUSES:
        return STATUSES[status]
    return Delivery.UNKNOWN if status >= 500 or 200 <= status < 300 else Delivery.REFUSED
