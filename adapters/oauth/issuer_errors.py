"""What an issuer means by an answer that does not bring what was asked for: one function, and the table that it reads.

`verdict_of` takes the kind of request, the status and the error code. The first row that matches decides. Where no row
does, the status says what happened to the request (`Delivery`).

The codes are those of RFC 6749 (section 5.2), RFC 8628 and OpenID Connect, and those that issuers in the field use. For
a refresh, a known code decides before the status: `invalid_client` comes with status 401 and is no dead token, and
`invalid_grant` comes with status 400 and is one.
"""

from collections.abc import Container
from enum import StrEnum
from typing import Final

import msgspec

from authstate.engine.model.errors import Delivery, RefreshDeadReason


class IssuerRequest(StrEnum):
    """What the issuer was asked for."""

    REFRESH = "refresh"
    REVOCATION = "revocation"
    EXCHANGE = "exchange"
    """Exchange an authorization code for tokens."""
    AUTHORIZATION = "authorization"
    """The page where the person agrees; it answers through the browser, without a status."""
    DEVICE_CODE = "device_code"
    DEVICE_POLL = "device_poll"


class Outcome(StrEnum):
    """What the issuer means, where nothing more has to be said."""

    NOT_PROCESSED = "not_processed"
    """It did not process the request, and will do so later."""
    PENDING = "pending"
    """The person has not agreed yet."""
    POLLED_TOO_OFTEN = "polled_too_often"
    CODE_EXPIRED = "code_expired"
    DECLINED = "declined"
    """The person, or the issuer on their behalf, declined the sign-in."""
    DEVICE_CODES_DISABLED = "device_codes_disabled"
    SIGN_IN_REFUSED = "sign_in_refused"
    """The same request would be refused again."""


class DeadToken(msgspec.Struct, frozen=True):
    """The refresh token is dead. `detail` is a sentence for the person."""

    reason: RefreshDeadReason
    detail: str = ""


class Rejected(msgspec.Struct, frozen=True):
    """Neither a retry nor a sign-in helps. `remedy` says what does, after a colon."""

    remedy: str


Verdict = Outcome | DeadToken | Rejected | Delivery
"""`Delivery`: the answer says no more than what happened to the request."""

_EXPIRED, _EXHAUSTED = DeadToken(RefreshDeadReason.EXPIRED), DeadToken(RefreshDeadReason.EXHAUSTED)
_REVOKED = DeadToken(RefreshDeadReason.REVOKED)
_CLOSED = DeadToken(
    RefreshDeadReason.REVOKED, "The account is closed or suspended: ask the administrator or the issuer's support."
)
_UNNAMED = DeadToken(RefreshDeadReason.UNKNOWN)
_CLIENT = Rejected(
    "it does not accept this client: check CODEX_APP_SERVER_LOGIN_CLIENT_ID and CODEX_APP_SERVER_LOGIN_ISSUER, or "
    "unset them"
)
_REQUEST = Rejected(
    "it does not understand the request: check CODEX_REFRESH_TOKEN_URL_OVERRIDE and CODEX_APP_SERVER_LOGIN_ISSUER, or "
    "update authstate"
)
_PLACE = Rejected("it does not serve the country or network that you come from: use another network, VPN or proxy")
_RULE = Rejected("a rule of your organization forbids it: ask your administrator")

REFRESH_CODES: Final[dict[str, Verdict]] = {
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
    "rate_limit_exceeded": Outcome.NOT_PROCESSED,
    "too_many_requests": Outcome.NOT_PROCESSED,
    "slow_down": Outcome.NOT_PROCESSED,
    "temporarily_unavailable": Outcome.NOT_PROCESSED,
}
"""What each code means in the answer to a refresh, in lower case."""

_SUCCESS: Final = range(200, 300)
_FAILURE: Final = range(400, 1000)
_CLIENT_ERROR: Final = frozenset(range(400, 500)) - {408, 429}
"""The next request would be answered in the same way."""


class _AnyCode:
    """Contains every error code, but not the missing one."""

    def __contains__(self, code: object) -> bool:
        return bool(code)


class Rule(msgspec.Struct, frozen=True):
    """One row: for `request`, an answer with one of the statuses and one of the codes means `verdict`."""

    request: IssuerRequest
    verdict: Verdict
    statuses: Container[int] | None = None
    """None: whatever the status is."""
    codes: Container[str] | None = None
    """None: whatever the code is."""

    def matches(self, request: IssuerRequest, status: int, code: str) -> bool:
        """Whether the row decides."""
        return (
            request is self.request
            and (self.statuses is None or status in self.statuses)
            and (self.codes is None or code in self.codes)
        )


_DEVICE_CODE, _DEVICE_POLL = IssuerRequest.DEVICE_CODE, IssuerRequest.DEVICE_POLL
_REFRESH = IssuerRequest.REFRESH

RULES: Final = (
    *(Rule(_REFRESH, verdict, _SUCCESS, {code}) for code, verdict in REFRESH_CODES.items()),
    *(Rule(_REFRESH, verdict, _FAILURE, {code}) for code, verdict in REFRESH_CODES.items()),
    Rule(_REFRESH, _UNNAMED, {401}),
    Rule(IssuerRequest.EXCHANGE, Outcome.SIGN_IN_REFUSED, _SUCCESS, _AnyCode()),
    Rule(IssuerRequest.EXCHANGE, Outcome.SIGN_IN_REFUSED, _CLIENT_ERROR, _AnyCode()),
    Rule(IssuerRequest.EXCHANGE, Delivery.REFUSED, _SUCCESS),
    Rule(IssuerRequest.AUTHORIZATION, Outcome.DECLINED, codes={"access_denied"}),
    Rule(IssuerRequest.AUTHORIZATION, Outcome.SIGN_IN_REFUSED),
    Rule(_DEVICE_CODE, Delivery.REFUSED, _SUCCESS),
    Rule(_DEVICE_CODE, Outcome.DEVICE_CODES_DISABLED, {404}),
    Rule(_DEVICE_CODE, Outcome.SIGN_IN_REFUSED, _CLIENT_ERROR),
    Rule(_DEVICE_POLL, Delivery.UNKNOWN, _SUCCESS),
    Rule(_DEVICE_POLL, Outcome.POLLED_TOO_OFTEN, {429}),
    Rule(_DEVICE_POLL, Outcome.POLLED_TOO_OFTEN, codes={"slow_down"}),
    Rule(_DEVICE_POLL, Outcome.CODE_EXPIRED, codes={"expired_token"}),
    Rule(_DEVICE_POLL, Outcome.DECLINED, codes={"access_denied"}),
    Rule(_DEVICE_POLL, Outcome.PENDING, codes={"authorization_pending"}),
    Rule(_DEVICE_POLL, Outcome.PENDING, {403, 404}),
    Rule(_DEVICE_POLL, Outcome.SIGN_IN_REFUSED, _CLIENT_ERROR),
)
"""The first row that matches decides."""

DELIVERIES: Final[dict[int, Delivery]] = {
    408: Delivery.UNKNOWN,
    425: Delivery.NOT_PROCESSED,
    429: Delivery.NOT_PROCESSED,
    503: Delivery.NOT_PROCESSED,
}
"""What happened to a request, for statuses that differ from their class."""


def verdict_of(request: IssuerRequest, status: int, code: str) -> Verdict:
    """What the issuer means by an answer that does not bring what was asked for.

    Args:
        request: what the issuer was asked for.
        status: the HTTP status; 0 where there is none, as for what comes back through a browser.
        code: the error code in lower case; empty where there is none. For device requests the issuer may put the
            prefix `deviceauth_` in front of it.
    """
    if request in (_DEVICE_CODE, _DEVICE_POLL):
        code = code.removeprefix("deviceauth_")
    for rule in RULES:
        if rule.matches(request, status, code):
            return rule.verdict
    return delivery_of(status)


def delivery_of(status: int) -> Delivery:
    """What happened to a request that was answered with this status.

    A gateway may give up on an issuer that continues, so every 5xx but 503 leaves it unknown. A 2xx without tokens does
    so, too. A redirect or another 4xx would come again.
    """
    if status in DELIVERIES:
        return DELIVERIES[status]
    return Delivery.UNKNOWN if status >= 500 or status in _SUCCESS else Delivery.REFUSED
