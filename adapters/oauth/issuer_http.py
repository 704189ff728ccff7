"""One POST to the issuer and its bounded answer, for every endpoint of the issuer.

An answer is read, and unpacked, up to 1 MiB. Redirects are not followed: a token goes where it was sent, nowhere else.
Every connection is closed after its answer, because a kept one may die between two requests that are hours apart, and a
token lost with it is a login lost.

Proxies and certificate authorities are those of a `Network`, and of nothing else: httpx reads no environment here.
"""

import asyncio
import math
import time
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import msgspec

from authstate.adapters.confidential import Confidential, place_of
from authstate.adapters.network.failures import Fault, fault_of, refused_by_proxy
from authstate.adapters.network.insecure_http import InsecureTransport, ensure_secure
from authstate.adapters.network.proxies import Network, NetworkSettingError, Proxy, urlsplit_or_none
from authstate.adapters.oauth.issuer_errors import delivery_of
from authstate.engine.model.credentials import Secret
from authstate.engine.model.errors import Delivery, IssuerUnavailable, fresh_errors

if TYPE_CHECKING:
    import httpx

LONGEST_ANSWER: Final = 1024 * 1024
"""Bytes. Nothing that an issuer or a backend has to say here is near it."""

ISSUER_VARIABLE: Final = "CODEX_APP_SERVER_LOGIN_ISSUER"
"""What a message names when the issuer's URL is none."""

IN_BETWEEN: Final = "a proxy or a sign-in page of the network may be in between: check it, then try again"
"""What to do about an answer that an issuer would not give."""

_PACKED: Final = ("gzip", "x-gzip", "deflate")
_GZIP_OR_ZLIB: Final = 32 + zlib.MAX_WBITS
_LONGEST_PAUSE: Final = 86_400.0  # seconds; whoever asks for more means "not today", and a message stays short
_FORM: Final = "application/x-www-form-urlencoded"


class AnswerTooLong(Exception):
    """An answer has more than `LONGEST_ANSWER` bytes. What was read of it is dropped."""


async def read_bounded(response: "httpx.Response") -> bytes:
    """The body of a streamed response. Cancellation leaves the response to whoever opened it.

    A body that is packed is unpacked here, though nobody asks for one, because httpx unpacks without a bound: a few
    bytes can become a thousand times as many. One that cannot be unpacked is empty.

    Raises:
        AnswerTooLong: it does not end within `LONGEST_ANSWER` bytes.
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
"""What is sent, by name. A secret is revealed only where the request is written."""


class IssuerResponse(Confidential, frozen=True):
    """What the issuer answered."""

    status: int
    headers: Mapping[str, str]
    members: Mapping[str, Any]
    """Empty when the body is no JSON object."""

    @property
    def succeeded(self) -> bool:
        """Whether the status is one of success."""
        return 200 <= self.status < 300


class _Wire:
    """Knows whether a request left this machine, from what httpcore tells of each step.

    The `CONNECT` that opens a tunnel through a proxy is not the request.
    """

    def __init__(self) -> None:
        self._is_told = False
        self._is_sent = False
        self.is_begun = False
        """Whether whoever is connected to, the host or a proxy, has been asked for anything."""

    async def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """What httpcore calls: see its documentation of the extension `trace`."""
        self._is_told = True
        if event.endswith("send_request_headers.started"):
            self.is_begun = True
            request = info.get("request")
            self._is_sent = self._is_sent or getattr(request, "method", b"") != b"CONNECT"

    @property
    def may_be_sent(self) -> bool:
        """Whether the request left this machine, or nothing is known of that."""
        return self._is_sent or not self._is_told

    def delivery(self, error: Exception) -> Delivery:
        """What became of a request that failed. Where the transport tells nothing, the kind of the error does."""
        if self._is_told:
            return Delivery.UNKNOWN if self._is_sent else Delivery.NOT_SENT
        import httpx

        unsent = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, httpx.InvalidURL)
        is_unsent = isinstance(error, (*unsent, httpx.UnsupportedProtocol, httpx.LocalProtocolError))
        is_of_the_wire = isinstance(error, httpx.TransportError | TimeoutError)
        return Delivery.UNKNOWN if is_of_the_wire and not is_unsent else Delivery.NOT_SENT


class IssuerHttp:
    """Asks the issuer. httpx is imported, and a client made, with the first request.

    Args:
        network: the proxies and certificate authorities; by default those of the environment.
    """

    def __init__(self, network: Network | None = None) -> None:
        self._network = network
        self._clients: dict[Proxy | None, httpx.AsyncClient] = {}

    def warm_up(self, url: str, host: str) -> None:
        """Make the client before the first request, which then need not wait for it. Any thread may do it.

        Raises:
            IssuerUnavailable: a setting of the network cannot be used; `delivery` is REFUSED.
        """
        self._open(url, host)

    @fresh_errors
    async def post(self, url: str, host: str, body: Body, timeout: float, *, form: bool = False) -> IssuerResponse:
        """Send one request. Cancelling it drops the request, which the issuer may have served.

        Args:
            url: where to.
            host: what `host_of` made of it, for the messages.
            body: sent as JSON, or as a form.
            timeout: seconds that all of it may take, from looking up the host to the last byte.

        Raises:
            IssuerUnavailable: there is no answer.
        """
        import httpx

        client, proxy = self._open(url, host)
        revealed = {name: value.reveal() if isinstance(value, Secret) else value for name, value in body.items()}
        content = urlencode(revealed).encode() if form else msgspec.json.encode(revealed)
        headers = {"Content-Type": _FORM if form else "application/json"}
        wire = _Wire()
        try:
            async with asyncio.timeout(timeout):
                request = client.build_request("POST", url, content=content, headers=headers, timeout=timeout)
                request.extensions["trace"] = wire.trace
                response = await client.send(request, stream=True)
                try:
                    received = await read_bounded(response)
                finally:
                    await response.aclose()
        except AnswerTooLong:
            raise IssuerUnavailable(
                f"{host} sent an answer of more than {LONGEST_ANSWER} bytes: {IN_BETWEEN}", delivery=Delivery.UNKNOWN
            ) from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            is_at_proxy = proxy is not None and proxy.scheme == "https" and not wire.is_begun
            delivery = wire.delivery(error)
            is_unsent = delivery is Delivery.NOT_SENT
            fault = fault_of(error, host, proxy, is_at_proxy=is_at_proxy) if is_unsent else None
            raise _unanswered(error, host, timeout, delivery) if fault is None else _named(fault) from None
        except Exception as fault:  # of a library, whose frames hold what was sent
            raise IssuerUnavailable(
                f"{host} could not be asked, because of a fault ({place_of(fault)}): please report it",
                delivery=Delivery.UNKNOWN if wire.may_be_sent else Delivery.REFUSED,
            ) from None
        if response.status_code == 407 and proxy is not None:
            raise _named(refused_by_proxy(407, host, proxy))
        return IssuerResponse(response.status_code, response.headers, _members(received))

    async def aclose(self) -> None:
        """Close what is open. The next call opens it again."""
        clients, self._clients = self._clients, {}
        for client in clients.values():
            await client.aclose()

    def _open(self, url: str, host: str) -> "tuple[httpx.AsyncClient, Proxy | None]":
        """The client for a URL, and the proxy that it goes through."""
        import httpx

        from authstate.adapters.network.http_clients import settings_for

        try:
            settings, proxy = settings_for(url, self._network)
        except NetworkSettingError as error:
            raise IssuerUnavailable(f"{host} cannot be asked: {error}", delivery=Delivery.REFUSED) from None
        if proxy not in self._clients:
            headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "authstate"}
            limits = httpx.Limits(max_keepalive_connections=0)
            self._clients[proxy] = httpx.AsyncClient(headers=headers, follow_redirects=False, limits=limits, **settings)
        return self._clients[proxy], proxy


def _unanswered(error: Exception, host: str, timeout: float, delivery: Delivery) -> IssuerUnavailable:
    """The error for a request without an answer, where neither TLS nor a proxy explains it."""
    import httpx

    if isinstance(error, httpx.TimeoutException | TimeoutError):
        what = f"{host} did not answer within {timeout:g} seconds: check the network and the proxy, then try again"
    elif isinstance(error, httpx.ConnectError):
        what = f"{host} cannot be reached: {error}: check the network and the proxy, then try again"
    else:
        what = f"{host} gave no answer: {_kind(error)}: try again; if that does not help, check the proxy"
    return IssuerUnavailable(what, delivery=delivery)


def _named(fault: Fault) -> IssuerUnavailable:
    """The error for what TLS or a proxy explains: the request did not reach the issuer."""
    return IssuerUnavailable(fault.message, delivery=Delivery.REFUSED if fault.is_permanent else Delivery.NOT_SENT)


def unavailable(answer: IssuerResponse, host: str, delivery: Delivery | None = None) -> IssuerUnavailable:
    """The error for an answer that is none. `delivery` is what its code told; else the status tells."""
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
    """The issuer's error code in lower case; empty where there is none."""
    error = members.get("error")
    nested = error.get("code") if isinstance(error, dict) else error
    for code in (nested, members.get("code")):
        if isinstance(code, str) and code:
            return code.strip().lower()
    return ""


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from a number or an HTTP date, at most a day; None when there is neither.

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
    return min(max(0.0, seconds), _LONGEST_PAUSE) if math.isfinite(seconds) else None


def _instant(date: str) -> float | None:
    from email.utils import parsedate_to_datetime  # imported here: few answers have a date that matters

    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, OverflowError, OSError, TypeError):
        return None


def host_of(url: str, variable: str) -> str:
    """The host a message may name.

    Raises:
        IssuerUnavailable: the URL is none, or is of another machine and without TLS (`plain_http`). It is not shown,
            since nobody knows what is in it.
    """
    parts = urlsplit_or_none(url)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname or not url.isprintable():
        raise IssuerUnavailable(
            f"{variable} is no http or https URL with a host: correct or unset it", delivery=Delivery.REFUSED
        )
    try:
        ensure_secure(url, variable)
    except InsecureTransport as error:
        raise IssuerUnavailable(str(error), delivery=Delivery.REFUSED) from None
    return parts.hostname if parts.port is None else f"{parts.hostname}:{parts.port}"


def text_of(value: object) -> str | None:
    """The value when it is a string with something in it."""
    return value if isinstance(value, str) and value.strip() else None


def _members(content: bytes) -> Mapping[str, Any]:
    try:
        members = msgspec.json.decode(content)
    except (ValueError, RecursionError):
        return {}
    return members if isinstance(members, dict) else {}


def _kind(error: Exception) -> str:
    """What an error is, without its text, which may quote anything."""
    return type(error).__name__
