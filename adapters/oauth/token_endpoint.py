"""The issuer's token endpoint over HTTP: spend a refresh token, and revoke one.

One call is one request; whoever calls decides whether to ask again. An answer is read up to 1 MiB, redirects are not
followed (a token goes where it was sent and nowhere else), and every connection is closed after its answer, because a
kept one may die between two refreshes that are hours apart, and a token lost with it is a login lost.

What goes wrong is told apart by one table of error codes; everything else that is no 401 is `IssuerUnavailable`.
Proxies and CA bundles come from the environment, as httpx reads them.
"""

import asyncio
import json
import math
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit, urlunsplit

import msgspec

from authstate.engine.credentials import Secret
from authstate.engine.errors import IssuerUnavailable, PermanentRefreshError, RefreshDeadReason
from authstate.engine.ports import PartialRefresh, RefreshedTokens

if TYPE_CHECKING:
    import httpx

LONGEST_ANSWER: Final = 1024 * 1024
"""Bytes. Nothing that an issuer or a backend has to say here is near it."""

REFRESH_URL_VARIABLE: Final = "CODEX_REFRESH_TOKEN_URL_OVERRIDE"
REVOKE_URL_VARIABLE: Final = "CODEX_REVOKE_TOKEN_URL_OVERRIDE"
ISSUER_VARIABLE: Final = "CODEX_APP_SERVER_LOGIN_ISSUER"

_DEAD: Final = {
    "refresh_token_expired": RefreshDeadReason.EXPIRED,
    "refresh_token_reused": RefreshDeadReason.EXHAUSTED,
    "refresh_token_invalidated": RefreshDeadReason.REVOKED,
}
_SCOPE: Final = "openid profile email"
_REVOKE_TIMEOUT: Final = 10.0


class AnswerTooLong(Exception):
    """An answer has more than `LONGEST_ANSWER` bytes. What was read of it is dropped."""


async def read_bounded(response: "httpx.Response") -> bytes:
    """The body of a streamed response. Cancellation leaves the response to whoever opened it.

    Raises:
        AnswerTooLong: it does not end within `LONGEST_ANSWER` bytes.
    """
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > LONGEST_ANSWER:
            raise AnswerTooLong
    return bytes(body)


class _Answer(msgspec.Struct, frozen=True):
    status: int
    headers: Mapping[str, str]
    members: Mapping[str, Any]
    """Empty when the body is no JSON object."""


class HttpTokenAuthority:
    """A `TokenAuthority` over httpx, which is imported with the first request.

    Args:
        issuer: the issuer's URL.
        client_id: the OAuth client.
        refresh_url: another token endpoint than the issuer's.
        revoke_url: another revocation endpoint. Without one, it is beside the token endpoint: a token is shown to
            nobody but those who issue it.
        timeout: seconds that a whole refresh may take, from looking up the host to the last byte.
    """

    def __init__(
        self,
        issuer: str,
        client_id: str,
        *,
        refresh_url: str | None = None,
        revoke_url: str | None = None,
        timeout: float = 30.0,
    ) -> None:
        self._client_id = client_id
        self._timeout = timeout
        self._refresh_from = REFRESH_URL_VARIABLE if refresh_url else ISSUER_VARIABLE
        self._refresh_url = refresh_url or issuer.rstrip("/") + "/oauth/token"
        self._revoke_from = REVOKE_URL_VARIABLE if revoke_url else self._refresh_from
        self._revoke_url = revoke_url or _beside(refresh_url) or issuer.rstrip("/") + "/oauth/revoke"
        self._client: httpx.AsyncClient | None = None

    async def refresh(self, refresh_token: Secret) -> RefreshedTokens:
        """See `TokenAuthority`. Cancelled after the request is out, the token may be spent and its successor lost.

        Raises:
            PermanentRefreshError: refused for good.
            PartialRefresh: a new refresh token came, but no access token that could be used.
            IssuerUnavailable: everything else; with `retry_after` when the issuer asked for a pause.
        """
        host = _host(self._refresh_url, self._refresh_from)
        body = {
            "client_id": self._client_id,
            "grant_type": "refresh_token",
            "refresh_token": refresh_token.reveal(),
            "scope": _SCOPE,
        }
        return _tokens(await self._post(self._refresh_url, host, body, self._timeout), refresh_token, host)

    async def revoke(self, refresh_token: Secret) -> None:
        """See `TokenAuthority`. Takes 10 seconds at most; cancelling it drops the request.

        Raises:
            IssuerUnavailable: it was not revoked, as far as we know.
        """
        host = _host(self._revoke_url, self._revoke_from)
        body = {
            "token": refresh_token.reveal(),
            "token_type_hint": "refresh_token",
            "client_id": self._client_id,
        }
        answer = await self._post(self._revoke_url, host, body, _REVOKE_TIMEOUT)
        if not 200 <= answer.status < 300:
            raise _unavailable(answer, host)

    async def aclose(self) -> None:
        """Close what is open. The next call opens it again."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _post(self, url: str, host: str, body: Mapping[str, str], timeout: float) -> _Answer:
        import httpx

        client = self._open(host)
        try:
            async with asyncio.timeout(timeout):
                request = client.build_request("POST", url, content=json.dumps(body), timeout=timeout)
                response = await client.send(request, stream=True)
                try:
                    content = await read_bounded(response)
                finally:
                    await response.aclose()
        except (httpx.TimeoutException, TimeoutError):
            raise IssuerUnavailable(f"{host} did not answer within {timeout:g} seconds") from None
        except httpx.ConnectError as error:
            raise IssuerUnavailable(f"{host} cannot be reached: {error}") from None
        except AnswerTooLong:
            raise IssuerUnavailable(
                f"{host} sent an answer of more than {LONGEST_ANSWER} bytes", is_retried=False
            ) from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            raise IssuerUnavailable(f"{host} gave no answer: {_kind(error)}") from None
        return _Answer(response.status_code, response.headers, _members(content))

    def _open(self, host: str) -> "httpx.AsyncClient":
        if self._client is None:
            import httpx

            headers = {
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "Content-Type": "application/json",
                "User-Agent": "authstate",
            }
            try:
                self._client = httpx.AsyncClient(
                    headers=headers, follow_redirects=False, limits=httpx.Limits(max_keepalive_connections=0)
                )
            except (OSError, ValueError, ImportError, httpx.InvalidURL) as error:
                raise IssuerUnavailable(
                    f"{host} cannot be asked: the proxy or CA settings of the environment (HTTPS_PROXY, ALL_PROXY, "
                    f"SSL_CERT_FILE, SSL_CERT_DIR) cannot be used ({_kind(error)})"
                ) from None
        return self._client


def _tokens(answer: _Answer, sent: Secret, host: str) -> RefreshedTokens:
    """What an answer means. A new refresh token is kept whatever else is wrong: the old one is spent by then."""
    access_token = _header_text(answer.members.get("access_token"))
    new = _text(answer.members.get("refresh_token"))
    refresh_token = Secret(new) if new is not None else None
    succeeded = 200 <= answer.status < 300
    if succeeded and access_token is not None:
        id_token = _text(answer.members.get("id_token"))
        return RefreshedTokens(Secret(access_token), refresh_token, Secret(id_token) if id_token else None)
    if refresh_token is not None and refresh_token != sent:
        raise PartialRefresh(refresh_token)
    reason = _DEAD.get(_code(answer.members))
    if reason is not None and (succeeded or answer.status >= 400):
        raise PermanentRefreshError(reason)
    if answer.status == 401:
        raise PermanentRefreshError(RefreshDeadReason.UNKNOWN, f"{host} answered with status 401.")
    if succeeded:
        raise IssuerUnavailable(f"{host} answered without tokens", is_retried=False)
    raise _unavailable(answer, host)


def _unavailable(answer: _Answer, host: str) -> IssuerUnavailable:
    if 300 <= answer.status < 400:
        message = f"{host} answered with a redirect (status {answer.status}), which is not followed"
        return IssuerUnavailable(message, is_retried=False)
    overloaded = answer.status == 429 or answer.status >= 500
    pause = _retry_after(answer.headers) if overloaded else None
    return IssuerUnavailable(f"{host} answered with status {answer.status}", pause, is_retried=overloaded)


def _code(members: Mapping[str, Any]) -> str:
    """The issuer's error code in lower case; empty where there is none."""
    error = members.get("error")
    nested = error.get("code") if isinstance(error, dict) else error
    for code in (nested, members.get("code")):
        if isinstance(code, str) and code:
            return code.strip().lower()
    return ""


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from a number or an HTTP date; None when there is neither.

    A date counts from the issuer's own `Date`, so that a wrong clock of this machine does not matter.
    """
    value = headers.get("retry-after", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        then, now = _instant(value), _instant(headers.get("date", ""))
        if then is None:
            return None
        seconds = then - (time.time() if now is None else now)
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _instant(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, OverflowError, OSError, TypeError):
        return None


def _members(content: bytes) -> Mapping[str, Any]:
    try:
        members = msgspec.json.decode(content)
    except (ValueError, RecursionError):
        return {}
    return members if isinstance(members, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value.strip() else None


def _header_text(value: object) -> str | None:
    """A token that fits into a header."""
    text = _text(value)
    return text if text is not None and text.isascii() and text.isprintable() else None


def _host(url: str, variable: str) -> str:
    """The host a message may name.

    Raises:
        IssuerUnavailable: the URL is none. It is not shown, since nobody knows what is in it.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname or not url.isprintable():
        raise IssuerUnavailable(
            f"{variable} is no http or https URL with a host: correct or unset it", is_retried=False
        )
    return parts.hostname if port is None else f"{parts.hostname}:{port}"


def _beside(refresh_url: str | None) -> str | None:
    """The revocation endpoint of a token endpoint that is not the issuer's.

    What is no URL stays as it is, and `_host` refuses it.
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


def _kind(error: Exception) -> str:
    """What an error is, without its text, which may quote anything."""
    return type(error).__name__
