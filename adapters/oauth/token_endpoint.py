"""The issuer over HTTP: spend a refresh token, revoke one, and ask whose a personal access token is.

One call is one request; the caller decides whether to ask again. issuer_errors.py says what an answer means.
"""

from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from authstate.adapters.network.http_proxies import Network
from authstate.adapters.network.insecure_http import ensure_secure
from authstate.adapters.oauth.issuer import displayable_code
from authstate.adapters.oauth.issuer_errors import DeadToken, IssuerRequest, Outcome, Rejected, verdict_of
from authstate.adapters.oauth.issuer_http import (
    ISSUER_VARIABLE,
    Body,
    IssuerHttp,
    IssuerResponse,
    error_code,
    host_of,
    nonblank_text,
    unavailable,
)
from authstate.engine.model.account import Account, PlanType
from authstate.engine.model.errors import (
    Delivery,
    IssuerUnavailable,
    PermanentRefreshError,
    RefreshDeadReason,
    TokenRefused,
    strip_tracebacks,
)
from authstate.engine.model.secret import Secret, fits_header
from authstate.engine.ports import PartialRefresh, RefreshedTokens

REFRESH_URL_VARIABLE: Final = "CODEX_REFRESH_TOKEN_URL_OVERRIDE"
REVOKE_URL_VARIABLE: Final = "CODEX_REVOKE_TOKEN_URL_OVERRIDE"

AUTHAPI_URL_VARIABLE: Final = "CODEX_AUTHAPI_BASE_URL"
DEFAULT_AUTHAPI_URL: Final = "https://auth.openai.com/api/accounts"

_REVOKE_TIMEOUT: Final = 10.0
_IDENTIFY_TIMEOUT: Final = 10.0


class HttpTokenAuthority:
    """A `TokenAuthority` over httpx, which is imported with the first request.

    Args:
        issuer: the issuer's URL.
        client_id: the OAuth client.
        refresh_url: another token endpoint than the issuer's.
        revoke_url: another revocation endpoint. Default: the one next to the token endpoint, so that a token is sent
            only to its issuer.
        authapi_url: where the owner of a personal access token is asked for; by default the one that codex asks.
        timeout: seconds that a whole refresh may take, from the DNS lookup to the last byte.
        network: the proxies and certificate authorities; by default those of the environment.

    Raises:
        InsecureTransport: a URL is an `http://` one of another machine; see `ensure_secure`.
    """

    def __init__(
        self,
        issuer: str,
        client_id: str,
        *,
        refresh_url: str | None = None,
        revoke_url: str | None = None,
        authapi_url: str | None = None,
        timeout: float = 30.0,
        network: Network | None = None,
    ) -> None:
        self._client_id = client_id
        self._timeout = timeout
        self._refresh_from = REFRESH_URL_VARIABLE if refresh_url else ISSUER_VARIABLE
        self._refresh_url = refresh_url or issuer.rstrip("/") + "/oauth/token"
        self._revoke_from = REVOKE_URL_VARIABLE if revoke_url else self._refresh_from
        self._revoke_url = revoke_url or _beside(refresh_url) or issuer.rstrip("/") + "/oauth/revoke"
        self._whoami_url = (authapi_url or DEFAULT_AUTHAPI_URL).rstrip("/") + "/v1/user-auth-credential/whoami"
        ensure_secure(self._whoami_url, AUTHAPI_URL_VARIABLE)
        ensure_secure(self._refresh_url, self._refresh_from)
        ensure_secure(self._revoke_url, self._revoke_from)
        self._http = IssuerHttp(network)

    @strip_tracebacks
    async def refresh(self, refresh_token: Secret) -> RefreshedTokens:
        """See `TokenAuthority`. If it is cancelled after the request was sent, the new tokens may be lost.

        Raises:
            PermanentRefreshError: the refresh token is dead.
            PartialRefresh: the answer has a new refresh token, but no usable access token.
            IssuerUnavailable: everything else. `retry_after` is set if the issuer asked for a pause.
        """
        return await self._refresh(refresh_token, None)

    @strip_tracebacks
    async def refresh_if(self, refresh_token: Secret, ensure_may_send: Callable[[], None]) -> RefreshedTokens:
        """See `ChecksBeforeSending`. The check is made after the connection and TLS stand. Raises as `refresh` does."""
        return await self._refresh(refresh_token, ensure_may_send)

    async def _refresh(self, refresh_token: Secret, ensure_may_send: Callable[[], None] | None) -> RefreshedTokens:
        host = host_of(self._refresh_url, self._refresh_from)
        body: Body = {
            "client_id": self._client_id,
            "grant_type": "refresh_token",
            "refresh_token": refresh_token,
        }
        answer = await self._http.post(self._refresh_url, host, body, self._timeout, ensure_may_send=ensure_may_send)
        return _tokens(answer, refresh_token, host)

    @strip_tracebacks
    async def revoke(self, refresh_token: Secret) -> None:
        """See `TokenAuthority`. Takes at most 10 seconds. Cancelling it drops the request.

        Raises:
            IssuerUnavailable: it was probably not revoked.
        """
        host = host_of(self._revoke_url, self._revoke_from)
        body: Body = {
            "token": refresh_token,
            "token_type_hint": "refresh_token",
            "client_id": self._client_id,
        }
        answer = await self._http.post(self._revoke_url, host, body, _REVOKE_TIMEOUT)
        if not answer.succeeded:
            raise unavailable(answer, host)

    @strip_tracebacks
    async def identify(self, token: Secret) -> Account:
        """See `IdentifiesTokens`. Takes at most 10 seconds. Cancelling it drops the request.

        Raises:
            TokenRefused: the issuer answered 401.
            IssuerUnavailable: everything else, also an answer without a workspace.
        """
        host = host_of(self._whoami_url, AUTHAPI_URL_VARIABLE)
        answer = await self._http.get(self._whoami_url, host, token, _IDENTIFY_TIMEOUT)
        if answer.status == 401:
            raise TokenRefused(f"{host} answered with status 401")
        if not answer.succeeded:
            raise unavailable(answer, host)
        return _owner(answer, host)

    async def aclose(self) -> None:
        """Close the connections. The next call opens new ones."""
        await self._http.aclose()


def _owner(answer: IssuerResponse, host: str) -> Account:
    """Read whose a personal access token is. codex refuses an answer without a workspace and a user, too."""
    names = ("chatgpt_account_id", "chatgpt_user_id", "chatgpt_plan_type")
    account_id, user_id, plan = (_header_text(answer.members.get(name)) for name in names)
    if account_id is None or user_id is None:
        raise IssuerUnavailable(
            f"{host} did not say whose the personal access token is: try again later, or check {AUTHAPI_URL_VARIABLE}",
            delivery=Delivery.UNKNOWN,
        )
    email = nonblank_text(answer.members.get("email"))
    return Account(email=email, plan_type=PlanType.from_claim(plan), account_id=account_id, user_id=user_id)


def _tokens(answer: IssuerResponse, sent: Secret, host: str) -> RefreshedTokens:
    """Read the tokens of an answer. A new refresh token is kept even if the rest is wrong: the old one is spent."""
    access_token = _header_text(answer.members.get("access_token"))
    new = nonblank_text(answer.members.get("refresh_token"))
    refresh_token = Secret(new) if new is not None else None
    if answer.succeeded and access_token is not None:
        id_token = nonblank_text(answer.members.get("id_token"))
        return RefreshedTokens(Secret(access_token), refresh_token, Secret(id_token) if id_token else None)
    if refresh_token is not None and refresh_token != sent:
        raise PartialRefresh(refresh_token)
    raise _failure(answer, host)


def _failure(answer: IssuerResponse, host: str) -> PermanentRefreshError | IssuerUnavailable:
    """The error for an answer without tokens."""
    code = error_code(answer.members)
    shown = displayable_code(code)
    said = f"{host} answered with status {answer.status}" + (f" and the code {shown}" if shown else "")
    match verdict_of(IssuerRequest.REFRESH, answer.status, code):
        case DeadToken(reason=reason, detail=detail):
            said = f"{said}." if reason is RefreshDeadReason.UNKNOWN else ""
            return PermanentRefreshError(reason, " ".join(part for part in (said, detail) if part))
        case Rejected(remedy=remedy):
            return IssuerUnavailable(f"{said}: {remedy}", delivery=Delivery.REFUSED, code=code)
        case Outcome.NOT_PROCESSED:
            return unavailable(answer, host, Delivery.NOT_PROCESSED)
        case _:
            return unavailable(answer, host)


def _header_text(value: object) -> str | None:
    """A token that fits in an HTTP header; None for anything else."""
    text = nonblank_text(value)
    return text if text is not None and fits_header(text) else None


def _beside(refresh_url: str | None) -> str | None:
    """The revocation endpoint of a token endpoint that is not the issuer's.

    A value that is not a URL is returned unchanged, and `host_of` refuses it.
    """
    if not refresh_url:
        return None
    try:
        parts = urlsplit(refresh_url)
    except ValueError:
        return refresh_url
    if not refresh_url.isprintable():
        return refresh_url
    return urlunsplit((parts.scheme, parts.netloc, "/oauth/revoke", "", ""))
