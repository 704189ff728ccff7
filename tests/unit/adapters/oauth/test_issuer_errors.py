"""What an issuer means by an answer, by the kind of request, the status and the error code."""

import pytest

from authstate.adapters.oauth.issuer_errors import (
    REFRESH_CODES,
    RULES,
    DeadToken,
    IssuerRequest,
    Outcome,
    Rejected,
    Verdict,
    verdict_of,
)
from authstate.engine.model.errors import Delivery, RefreshDeadReason

REFRESH, EXCHANGE, POLL, DEVICE = (
    IssuerRequest.REFRESH,
    IssuerRequest.EXCHANGE,
    IssuerRequest.DEVICE_POLL,
    IssuerRequest.DEVICE_CODE,
)
UNKNOWN = DeadToken(RefreshDeadReason.UNKNOWN)


@pytest.mark.parametrize(
    ("request_", "status", "code", "verdict"),
    [
        (REFRESH, 400, "invalid_grant", UNKNOWN),
        (REFRESH, 200, "refresh_token_expired", DeadToken(RefreshDeadReason.EXPIRED)),
        (REFRESH, 503, "refresh_token_reused", DeadToken(RefreshDeadReason.EXHAUSTED)),
        (REFRESH, 401, "", UNKNOWN),
        (REFRESH, 401, "a_new_code", UNKNOWN),
        (REFRESH, 401, "rate_limit_exceeded", Outcome.NOT_PROCESSED),
        (REFRESH, 302, "invalid_grant", Delivery.REFUSED),
        (REFRESH, 429, "", Delivery.NOT_PROCESSED),
        (REFRESH, 500, "", Delivery.UNKNOWN),
        (REFRESH, 200, "", Delivery.UNKNOWN),
        (EXCHANGE, 400, "invalid_grant", Outcome.SIGN_IN_REFUSED),
        (EXCHANGE, 200, "invalid_grant", Outcome.SIGN_IN_REFUSED),
        (EXCHANGE, 400, "", Delivery.REFUSED),
        (EXCHANGE, 429, "slow_down", Delivery.NOT_PROCESSED),
        (EXCHANGE, 500, "server_error", Delivery.UNKNOWN),
        (EXCHANGE, 200, "", Delivery.REFUSED),
        (IssuerRequest.AUTHORIZATION, 0, "access_denied", Outcome.DECLINED),
        (IssuerRequest.AUTHORIZATION, 0, "server_error", Outcome.SIGN_IN_REFUSED),
        (IssuerRequest.REVOCATION, 400, "invalid_grant", Delivery.REFUSED),
        (IssuerRequest.REVOCATION, 503, "", Delivery.NOT_PROCESSED),
        (DEVICE, 404, "anything", Outcome.DEVICE_CODES_DISABLED),
        (DEVICE, 403, "", Outcome.SIGN_IN_REFUSED),
        (DEVICE, 408, "", Delivery.UNKNOWN),
        (DEVICE, 429, "", Delivery.NOT_PROCESSED),
        (POLL, 403, "", Outcome.PENDING),
        (POLL, 404, "deviceauth_unknown", Outcome.PENDING),
        (POLL, 400, "deviceauth_authorization_pending", Outcome.PENDING),
        (POLL, 403, "expired_token", Outcome.CODE_EXPIRED),
        (POLL, 403, "deviceauth_access_denied", Outcome.DECLINED),
        (POLL, 400, "slow_down", Outcome.POLLED_TOO_OFTEN),
        (POLL, 429, "expired_token", Outcome.POLLED_TOO_OFTEN),
        (POLL, 400, "invalid_client", Outcome.SIGN_IN_REFUSED),
        (POLL, 502, "", Delivery.UNKNOWN),
    ],
)
def test_the_verdict(request_: IssuerRequest, status: int, code: str, verdict: Verdict) -> None:
    assert verdict_of(request_, status, code) == verdict


def test_every_row_decides_something() -> None:
    """A row that an earlier one hides is a mistake."""
    statuses = (0, *range(200, 600))
    codes = ("", "a_new_code", "access_denied", "expired_token", "slow_down", "authorization_pending", *REFRESH_CODES)
    decided = {
        next((place for place, rule in enumerate(RULES) if rule.matches(request, status, code)), None)
        for request in IssuerRequest
        for status in statuses
        for code in codes
    }
    assert set(range(len(RULES))) <= decided


def test_a_rejection_and_a_death_say_what_to_do() -> None:
    for verdict in REFRESH_CODES.values():
        if isinstance(verdict, Rejected):
            assert ": " in verdict.remedy
        elif isinstance(verdict, DeadToken) and verdict.detail:
            assert verdict.detail.endswith(".")
