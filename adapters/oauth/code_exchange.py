"""The last step of every login: exchange an authorization code for tokens. The code works once."""

from typing import Final

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
    unavailable,
)
from authstate.engine.clock import SystemClock
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.errors import Delivery, InvalidCredentials, IssuerUnavailable, LoginFailed, strip_tracebacks
from authstate.engine.model.secret import Secret, fits_header
from authstate.engine.ports import Clock

_TIMEOUT: Final = 30.0  # seconds
_TOKENS: Final = ("id_token", "access_token", "refresh_token")


@strip_tracebacks
async def exchange_code(
    issuer: Issuer,
    *,
    code: Secret,
    redirect_uri: str,
    code_verifier: Secret,
    http: IssuerHttp | None = None,
    clock: Clock | None = None,
    timeout: float = _TIMEOUT,
) -> ChatgptTokens:
    """Exchange an authorization code for tokens, in one request. It is never sent twice, because the code works once.

    Args:
        issuer: the issuer of the code.
        code: the authorization code.
        redirect_uri: the redirect URI of the authorization request.
        code_verifier: the PKCE verifier of the challenge.
        http: sends the request. Default: a new one, which is closed afterwards.
        clock: for the time of the refresh that is stored with the tokens.
        timeout: seconds that the request may take.

    Raises:
        LoginFailed: the issuer refused; carries its error code.
        IssuerUnavailable: there is no usable answer.

    Cancelling it drops the request. The code may be spent.
    """
    url = issuer.url.rstrip("/") + "/oauth/token"
    host = host_of(url, ISSUER_VARIABLE)
    form: Body = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": redirect_uri,
        "client_id": issuer.client_id,
        "code_verifier": code_verifier,
    }
    asking = http or IssuerHttp(issuer.network)
    try:
        answer = await asking.post(url, host, form, timeout, form=True)
    finally:
        if http is None:
            await asking.aclose()
    return _tokens(answer, host, (clock or SystemClock()).now())


def _tokens(answer: IssuerResponse, host: str, now: float) -> ChatgptTokens:
    found = {name: nonblank_text(answer.members.get(name)) for name in _TOKENS}
    tokens = {name: token for name, token in found.items() if token is not None}
    if answer.succeeded and len(tokens) == len(_TOKENS):
        if not fits_header(tokens["access_token"]):
            raise IssuerUnavailable(
                f"{host} answered with an access token that does not fit in an HTTP header", delivery=Delivery.REFUSED
            )
        try:
            return ChatgptTokens.read(**tokens, last_refresh=now)
        except InvalidCredentials as malformed:
            raise IssuerUnavailable(
                f"{host} answered with tokens that cannot be read: {malformed}", delivery=Delivery.REFUSED
            ) from None
    code = displayable_code(error_code(answer.members))
    verdict = verdict_of(IssuerRequest.EXCHANGE, answer.status, code or "")
    if verdict is Outcome.SIGN_IN_REFUSED:
        raise LoginFailed(f"{host} refused the sign-in with the error {code}: start it again", code)
    if answer.succeeded:
        raise IssuerUnavailable(
            f"{host} answered without the tokens of a sign-in: {IN_BETWEEN}", delivery=Delivery.REFUSED
        )
    raise unavailable(answer, host)
