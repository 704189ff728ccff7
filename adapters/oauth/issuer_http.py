"""Send one POST to the issuer and read its bounded answer. All endpoints of the issuer use it.

An answer is read, and decompressed, up to 1 MiB. Redirects are not followed, so that a token goes only to the
configured host. Each connection is closed after its answer: a kept connection may die between two requests that are
hours apart, and a token that is lost with it means a lost login.

Proxies and certificate authorities come only from a `Network`. httpx reads no environment here.
"""

import asyncio
import math
import time
import zlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import msgspec

from authstate.adapters.confidential import Confidential, place_of
from authstate.adapters.network.failures import RequestFailure, explain_failure, explain_proxy_refusal
from authstate.adapters.network.http_proxies import Network, NetworkSettingError, Proxy, urlsplit_or_none
from authstate.adapters.network.insecure_http import InsecureTransport, ensure_secure
from authstate.adapters.oauth.issuer_errors import delivery_of
from authstate.engine.model.errors import Delivery, IssuerUnavailable, NotSentInTime, strip_tracebacks
from authstate.engine.model.secret import Secret

if TYPE_CHECKING:
    import httpx

LONGEST_ANSWER: Final = 1024 * 1024
"""Bytes. Real answers are much shorter."""

ISSUER_VARIABLE: Final = "CODEX_APP_SERVER_LOGIN_ISSUER"
"""What a message names if the issuer's URL is not valid."""

IN_BETWEEN: Final = "a proxy or a sign-in page of the network may have answered: check it, then try again"
"""What to do about an answer that does not come from an issuer."""

_PACKED: Final = ("gzip", "x-gzip", "deflate")
_GZIP_OR_ZLIB: Final = 32 + zlib.MAX_WBITS
_LONGEST_PAUSE: Final = 86_400.0  # seconds; keeps the message short
_FORM: Final = "application/x-www-form-urlencoded"


class AnswerTooLong(Exception):
    """An answer has more than `LONGEST_ANSWER` bytes. What was read of it is discarded."""


async def read_bounded(response: "httpx.Response") -> bytes:
    """Read the body of a streamed response. On cancellation the caller closes the response.

    A compressed body is decompressed here, although none is requested, because httpx decompresses without a limit: a
    few bytes can become a thousand times as many. A body that cannot be decompressed is empty.

    Raises:
        AnswerTooLong: it has more than `LONGEST_ANSWER` bytes.
    """
    if response.is_stream_consumed:  # a test's transport made it whole
        parts, unpack = response.aiter_bytes(), None
    else:
        is_packed = response.headers.get("content-encoding", "").strip().lower() in _PACKED
        parts, unpack = response.aiter_raw(), zlib.decompressobj(_GZIP_OR_ZLIB) if is_packed else None
    body = bytearray()
    async for part in parts:
        try:
            body += part if unpack is None else unpack.decompress(part, LONGEST_ANSWER + 1)
        except zlib.error:
            return b""
        if len(body) > LONGEST_ANSWER:
            raise AnswerTooLong
    return bytes(body)


Body = Mapping[str, str | Secret]
"""The members to send. A secret is revealed only when the request is written."""


class IssuerResponse(Confidential, frozen=True):
    """What the issuer answered."""

    status: int
    headers: Mapping[str, str]
    members: Mapping[str, Any]
    """Empty if the body is not a JSON object."""

    @property
    def succeeded(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300


class _Wire:
    """Records whether a request left this machine, from httpcore's trace of each step.

    The `CONNECT` for a tunnel through a proxy does not count.

    Args:
        ensure_may_send: called right before the request is written. What it raises ends the request, unsent.
    """

    def __init__(self, ensure_may_send: Callable[[], None] | None = None) -> None:
        self._ensure_may_send = ensure_may_send
        self._is_told = False
        self._is_sent = False
        self.is_begun = False
        """Whether anything was sent to the host or the proxy."""

    async def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Called by httpcore: see its `trace` extension."""
        self._is_told = True
        if event.endswith("send_request_headers.started"):
            self.is_begun = True
            if getattr(info.get("request"), "method", b"") != b"CONNECT":
                if self._ensure_may_send is not None:
                    self._ensure_may_send()
                self._is_sent = True

    @property
    def may_be_sent(self) -> bool:
        """Whether the request may have left this machine."""
        return self._is_sent or not self._is_told

    def delivery(self, error: Exception) -> Delivery:
        """What happened to a failed request. Without a trace, the type of the error decides."""
        if self._is_told:
            return Delivery.UNKNOWN if self._is_sent else Delivery.NOT_SENT
        import httpx

        unsent = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, httpx.InvalidURL)
        is_unsent = isinstance(error, (*unsent, httpx.UnsupportedProtocol, httpx.LocalProtocolError))
        is_of_the_wire = isinstance(error, httpx.TransportError | TimeoutError)
        return Delivery.UNKNOWN if is_of_the_wire and not is_unsent else Delivery.NOT_SENT


class IssuerHttp:
    """Sends requests to the issuer. The first one imports httpx and creates a client.

    Args:
        network: the proxies and certificate authorities. Default: those of the environment.
    """

    def __init__(self, network: Network | None = None) -> None:
        self._network = network
        self._clients: dict[Proxy | None, httpx.AsyncClient] = {}

    def warm_up(self, url: str, host: str) -> None:
        """Create the client before the first request. May be called in any thread.

        Raises:
            IssuerUnavailable: a setting of the network cannot be used; `delivery` is REFUSED.
        """
        self._open(url, host)

    @strip_tracebacks
    async def post(
        self,
        url: str,
        host: str,
        body: Body,
        timeout: float,
        *,
        form: bool = False,
        ensure_may_send: Callable[[], None] | None = None,
    ) -> IssuerResponse:
        """Send one request. Cancelling it drops the request, which the issuer may have processed.

        Args:
            url: the endpoint.
            host: the result of `host_of`, for the messages.
            body: the members, sent as JSON or as a form.
            timeout: seconds for the whole request, from the DNS lookup to the last byte.
            form: send a form instead of JSON.
            ensure_may_send: see `ChecksBeforeSending`.

        Raises:
            IssuerUnavailable: there is no answer.
            NotSentInTime: raised by `ensure_may_send`; nothing was sent.
        """
        revealed = {name: value.reveal() if isinstance(value, Secret) else value for name, value in body.items()}
        content = urlencode(revealed).encode() if form else msgspec.json.encode(revealed)
        headers = {"Content-Type": _FORM if form else "application/json"}
        return await self._send("POST", url, host, headers, content, timeout, ensure_may_send)

    @strip_tracebacks
    async def get(self, url: str, host: str, bearer: Secret, timeout: float) -> IssuerResponse:
        """Send one request that a token authorizes. The arguments and errors are those of `post`."""
        return await self._send("GET", url, host, {"Authorization": f"Bearer {bearer.reveal()}"}, None, timeout)

    async def _send(
        self,
        method: str,
        url: str,
        host: str,
        headers: Mapping[str, str],
        content: bytes | None,
        timeout: float,
        ensure_may_send: Callable[[], None] | None = None,
    ) -> IssuerResponse:
        import httpx

        client, proxy = self._open(url, host)
        wire = _Wire(ensure_may_send)
        try:
            async with asyncio.timeout(timeout):
                request = client.build_request(method, url, content=content, headers=headers, timeout=timeout)
                request.extensions["trace"] = wire.trace
                response = await client.send(request, stream=True)
                try:
                    received = await read_bounded(response)
                finally:
                    await response.aclose()
        except NotSentInTime:
            raise
        except AnswerTooLong:
            raise IssuerUnavailable(
                f"{host} sent an answer of more than {LONGEST_ANSWER} bytes: {IN_BETWEEN}", delivery=Delivery.UNKNOWN
            ) from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            is_at_proxy = proxy is not None and proxy.scheme == "https" and not wire.is_begun
            delivery = wire.delivery(error)
            is_unsent = delivery is Delivery.NOT_SENT
            fault = explain_failure(error, host, proxy, is_at_proxy=is_at_proxy) if is_unsent else None
            raise _unanswered(error, host, timeout, delivery) if fault is None else _named(fault) from None
        except Exception as fault:  # of a library, whose frames hold what was sent
            raise IssuerUnavailable(
                f"{host} could not be asked because of a bug ({place_of(fault)}): please report it",
                delivery=Delivery.UNKNOWN if wire.may_be_sent else Delivery.REFUSED,
            ) from None
        if response.status_code == 407 and proxy is not None:
            raise _named(explain_proxy_refusal(407, host, proxy))
        return IssuerResponse(response.status_code, response.headers, _members(received))

    async def aclose(self) -> None:
        """Close the connections. The next call opens new ones."""
        clients, self._clients = self._clients, {}
        for client in clients.values():
            await client.aclose()

    def _open(self, url: str, host: str) -> "tuple[httpx.AsyncClient, Proxy | None]":
        """Return the client for a URL, and the proxy that it uses."""
        import httpx

        from authstate.adapters.network.http_clients import client_settings

        try:
            settings, proxy = client_settings(url, self._network)
        except NetworkSettingError as error:
            raise IssuerUnavailable(f"{host} cannot be asked: {error}", delivery=Delivery.REFUSED) from None
        if proxy not in self._clients:
            headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "authstate"}
            limits = httpx.Limits(max_keepalive_connections=0)
            self._clients[proxy] = httpx.AsyncClient(headers=headers, follow_redirects=False, limits=limits, **settings)
        return self._clients[proxy], proxy


def _unanswered(error: Exception, host: str, timeout: float, delivery: Delivery) -> IssuerUnavailable:
    """The error for a request without an answer, if neither TLS nor a proxy explains it."""
    import httpx

    if isinstance(error, httpx.TimeoutException | TimeoutError):
        what = f"{host} did not answer within {timeout:g} seconds: check the network and the proxy, then try again"
    elif isinstance(error, httpx.ConnectError):
        what = f"{host} cannot be reached: {error}: check the network and the proxy, then try again"
    else:
        what = f"{host} gave no answer: {_kind(error)}: try again; if that does not help, check the proxy"
    return IssuerUnavailable(what, delivery=delivery)


def _named(fault: RequestFailure) -> IssuerUnavailable:
    """The error for a failure of TLS or of a proxy: the request did not reach the issuer."""
    return IssuerUnavailable(fault.message, delivery=Delivery.REFUSED if fault.is_permanent else Delivery.NOT_SENT)


def unavailable(answer: IssuerResponse, host: str, delivery: Delivery | None = None) -> IssuerUnavailable:
    """The error for an answer without tokens. `delivery` comes from the error code; by default from the status."""
    delivery = delivery or delivery_of(answer.status)
    if answer.succeeded:
        return IssuerUnavailable(f"{host} answered without tokens: {IN_BETWEEN}", delivery=delivery)
    if 300 <= answer.status < 400:
        message = f"{host} answered with a redirect (status {answer.status}), which is not followed: {IN_BETWEEN}"
        return IssuerUnavailable(message, delivery=delivery)
    is_overloaded = delivery is not Delivery.REFUSED
    pause = retry_after(answer.headers) if is_overloaded else None
    wait = f" in {pause:.0f} seconds" if pause is not None else " later"
    todo = f"it is overloaded: try again{wait}" if is_overloaded else IN_BETWEEN
    return IssuerUnavailable(f"{host} answered with status {answer.status}: {todo}", pause, delivery=delivery)


def error_code(members: Mapping[str, Any]) -> str:
    """Return the issuer's error code in lower case; empty if there is none."""
    error = members.get("error")
    nested = error.get("code") if isinstance(error, dict) else error
    for code in (nested, members.get("code")):
        if isinstance(code, str) and code:
            return code.strip().lower()
    return ""


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait, from a number or an HTTP date, at most a day; None if there is neither.

    A date is compared with the issuer's own `Date`, so a wrong clock of this machine does not matter.
    """
    value = headers.get("retry-after", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        then, now = _instant(value), _instant(headers.get("date", ""))
        if then is None:
            return None
        seconds = then - (time.time() if now is None else now)
    return min(max(0.0, seconds), _LONGEST_PAUSE) if math.isfinite(seconds) else None


def _instant(date: str) -> float | None:
    from email.utils import parsedate_to_datetime  # imported here: few answers have a date that matters

    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, OverflowError, OSError, TypeError):
        return None


def host_of(url: str, variable: str) -> str:
    """Return the host of a URL, for messages.

    Raises:
        IssuerUnavailable: the URL is not valid, or it uses `http://` to another machine (insecure_http.py). The URL is
            not shown, because it may contain a secret.
    """
    parts = urlsplit_or_none(url)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname or not url.isprintable():
        raise IssuerUnavailable(
            f"{variable} is not an http or https URL with a host: correct or unset it", delivery=Delivery.REFUSED
        )
    try:
        ensure_secure(url, variable)
    except InsecureTransport as error:
        raise IssuerUnavailable(str(error), delivery=Delivery.REFUSED) from None
    return parts.hostname if parts.port is None else f"{parts.hostname}:{parts.port}"


def nonblank_text(value: object) -> str | None:
    """Return the value if it is a string that is not blank; None otherwise."""
    return value if isinstance(value, str) and value.strip() else None


def _members(content: bytes) -> Mapping[str, Any]:
    try:
        members = msgspec.json.decode(content)
    except (ValueError, RecursionError):
        return {}
    return members if isinstance(members, dict) else {}


def _kind(error: Exception) -> str:
    """The type of an error, without its text, which may quote anything."""
    return type(error).__name__
