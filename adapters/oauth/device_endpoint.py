"""The issuer's device authorization endpoint over HTTP: get a code, and poll whether the person has entered it.

One call is one request. issuer_errors.py says what an answer means, and device_login.py when to ask again.
"""

import math
from typing import Final, Protocol

import msgspec

from authstate.adapters.confidential import Confidential
from authstate.adapters.oauth.issuer import Issuer, displayable_code
from authstate.adapters.oauth.issuer_errors import IssuerRequest, Outcome, verdict_of
from authstate.adapters.oauth.issuer_http import (
    IN_BETWEEN,
    ISSUER_VARIABLE,
    Body,
    IssuerHttp,
    IssuerResponse,
    error_code,
    host_of,
    nonblank_text,
    retry_after,
    unavailable,
)
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.errors import Delivery, IssuerUnavailable, LoginFailed, strip_tracebacks
from authstate.engine.model.secret import Secret

DEFAULT_INTERVAL: Final = 5.0
"""Seconds between two polls if the issuer names none."""

_INTERVALS: Final = (1.0, 60.0)  # seconds; values outside are clamped
_TIMEOUT: Final = 30.0
_LONGEST_CODE: Final = 64  # characters that a person is asked to type

_DENIED: Final = "access_denied"
_EXPIRED: Final = "expired_token"


class DeviceCodeNotEnabled(LoginFailed):
    """The issuer does not offer device codes: sign in with a browser."""


class DeviceCodeExpired(LoginFailed):
    """The device code has expired."""


class SlowDown(IssuerUnavailable):
    """The issuer is polled too often. Poll less often from now on, and wait `retry_after` seconds if it is set."""


class DeviceCode(Confidential, frozen=True):
    """The codes of one login."""

    device_auth_id: Secret
    user_code: str
    """What the person enters. Anybody who has it can sign in another device with this person's account."""
    interval: float
    """Seconds between two polls."""
    verification_url: str
    """The page where the person enters it."""


class DeviceApproval(msgspec.Struct, frozen=True):
    """The person agreed. The approval is exchanged for tokens."""

    authorization_code: Secret
    code_verifier: Secret


class DeviceEndpoint(Protocol):
    """What a device login needs of the issuer."""

    async def request(self) -> DeviceCode:
        """Get a code. Raises DeviceCodeNotEnabled, LoginFailed or IssuerUnavailable."""
        ...

    async def poll(self, code: DeviceCode) -> DeviceApproval | None:
        """Poll once. Returns None while the person has not agreed.

        Raises LoginFailed (refused), DeviceCodeExpired, SlowDown, or IssuerUnavailable (ask again).
        """
        ...

    async def exchange(self, approval: DeviceApproval) -> ChatgptTokens:
        """Exchange the approval, which works once, for tokens. Raises LoginFailed or IssuerUnavailable."""
        ...

    async def aclose(self) -> None:
        """Close the connections."""


class HttpDeviceEndpoint:
    """A `DeviceEndpoint` over httpx, which is imported with the first request. Cancelling a call drops the request."""

    def __init__(self, issuer: Issuer) -> None:
        self._issuer = issuer
        self._api = issuer.url.rstrip("/") + "/api/accounts/deviceauth"
        self._http = IssuerHttp(issuer.network)

    @strip_tracebacks
    async def request(self) -> DeviceCode:
        """See `DeviceEndpoint`."""
        url = f"{self._api}/usercode"
        host = host_of(url, ISSUER_VARIABLE)
        answer = await self._http.post(url, host, {"client_id": self._issuer.client_id}, _TIMEOUT)
        if not answer.succeeded:
            raise _failure(IssuerRequest.DEVICE_CODE, answer, host)
        members = answer.members
        device_auth_id = nonblank_text(members.get("device_auth_id"))
        user_code = nonblank_text(members.get("user_code")) or nonblank_text(members.get("usercode"))
        if device_auth_id is None or user_code is None or not _can_be_typed(user_code):
            raise IssuerUnavailable(f"{host} answered without a device code: {IN_BETWEEN}", delivery=Delivery.REFUSED)
        return DeviceCode(
            device_auth_id=Secret(device_auth_id),
            user_code=user_code.strip(),
            interval=_interval(members.get("interval")),
            verification_url=self._issuer.url.rstrip("/") + "/codex/device",
        )

    @strip_tracebacks
    async def poll(self, code: DeviceCode) -> DeviceApproval | None:
        """See `DeviceEndpoint`."""
        url = f"{self._api}/token"
        host = host_of(url, ISSUER_VARIABLE)
        body: Body = {"device_auth_id": code.device_auth_id, "user_code": Secret(code.user_code)}
        return _approval(await self._http.post(url, host, body, _TIMEOUT), host)

    @strip_tracebacks
    async def exchange(self, approval: DeviceApproval) -> ChatgptTokens:
        """See `DeviceEndpoint`."""
        from authstate.adapters.oauth.code_exchange import exchange_code

        return await exchange_code(
            self._issuer,
            code=approval.authorization_code,
            redirect_uri=self._issuer.url.rstrip("/") + "/deviceauth/callback",
            code_verifier=approval.code_verifier,
            http=self._http,
        )

    async def aclose(self) -> None:
        """See `DeviceEndpoint`."""
        await self._http.aclose()


def _approval(answer: IssuerResponse, host: str) -> DeviceApproval | None:
    """The approval in the answer to a poll; None while the person has not agreed yet."""
    if answer.succeeded:
        code = nonblank_text(answer.members.get("authorization_code"))
        verifier = nonblank_text(answer.members.get("code_verifier"))
        if code is None or verifier is None:
            raise IssuerUnavailable(f"{host} answered without an authorization code: {IN_BETWEEN}")
        return DeviceApproval(Secret(code), Secret(verifier))
    if verdict_of(IssuerRequest.DEVICE_POLL, answer.status, error_code(answer.members)) is Outcome.PENDING:
        return None
    raise _failure(IssuerRequest.DEVICE_POLL, answer, host)


def _failure(request: IssuerRequest, answer: IssuerResponse, host: str) -> LoginFailed | IssuerUnavailable:
    """The error for an answer without a code or an approval."""
    said = error_code(answer.members)
    code = displayable_code(said)
    match verdict_of(request, answer.status, said):
        case Outcome.DEVICE_CODES_DISABLED:
            return DeviceCodeNotEnabled(
                f"signing in with a device code is not enabled at {host}: sign in with a browser, or ask the "
                "administrator of your workspace to enable device codes",
                code,
            )
        case Outcome.POLLED_TOO_OFTEN:
            return SlowDown(f"{host} asks for fewer requests", retry_after(answer.headers))
        case Outcome.CODE_EXPIRED:
            return DeviceCodeExpired("the device code has expired: start the sign-in again", _EXPIRED)
        case Outcome.DECLINED:
            return LoginFailed("the sign-in was declined on the issuer's page: start it again to sign in", _DENIED)
        case Outcome.SIGN_IN_REFUSED:
            named = f", {code}" if code else ""
            return LoginFailed(
                f"{host} refused the sign-in with a device code (status {answer.status}{named}): start it again, or "
                "sign in with a browser",
                code,
            )
        case _:
            return unavailable(answer, host)


def _interval(value: object) -> float:
    """The interval that the issuer names, as a string or a number, clamped to 1 to 60 seconds."""
    try:
        seconds = float(value) if isinstance(value, str | int | float) else DEFAULT_INTERVAL
    except (ValueError, OverflowError):  # a whole number can be larger than any float
        seconds = DEFAULT_INTERVAL
    least, most = _INTERVALS
    return min(max(seconds, least), most) if math.isfinite(seconds) else DEFAULT_INTERVAL


def _can_be_typed(code: str) -> bool:
    return code.isprintable() and len(code) <= _LONGEST_CODE
