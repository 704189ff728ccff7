"""One POST to the issuer and its bounded answer, for every endpoint of the issuer.

An answer is read, and unpacked, up to 1 MiB. Redirects are not followed: a token goes where it was sent, nowhere else.
Every connection is closed after its answer, because a kept one may die between two requests that are hours apart, and a
token lost with it is a login lost.

Proxies and CA bundles come from the environment, as httpx reads them.
"""

import asyncio
import math
import os
import time
import zlib
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode, urlsplit

import msgspec

from authstate.adapters.oauth.issuer_errors import delivery_of
from authstate.engine.errors import Delivery, IssuerUnavailable

if TYPE_CHECKING:
    import ssl

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
_CA_VARIABLES: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR")
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


class Answer(msgspec.Struct, frozen=True):
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

    async def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """What httpcore calls: see its documentation of the extension `trace`."""
        self._is_told = True
        if event.endswith("send_request_headers.started"):
            request = info.get("request")
            self._is_sent = self._is_sent or getattr(request, "method", b"") != b"CONNECT"

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
    """Asks the issuer. httpx is imported, and the client made, with the first request."""

    def __init__(self) -> None:
        self._client: httpx.AsyncClient | None = None

    def warm_up(self, host: str) -> None:
        """Make the client before the first request, which then need not wait for it. Any thread may do it.

        Raises:
            IssuerUnavailable: the proxy or CA settings of the environment cannot be used.
        """
        self._open(host)

    async def post(self, url: str, host: str, body: Mapping[str, str], timeout: float, *, form: bool = False) -> Answer:
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

        client = self._open(host)
        content = urlencode(body).encode() if form else msgspec.json.encode(body)
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
        except (httpx.TimeoutException, TimeoutError) as error:
            raise IssuerUnavailable(
                f"{host} did not answer within {timeout:g} seconds: check the network and the proxy, then try again",
                delivery=wire.delivery(error),
            ) from None
        except httpx.ConnectError as error:
            raise IssuerUnavailable(
                f"{host} cannot be reached: {error}: check the network and the proxy, then try again"
            ) from None
        except AnswerTooLong:
            raise IssuerUnavailable(
                f"{host} sent an answer of more than {LONGEST_ANSWER} bytes: {IN_BETWEEN}", delivery=Delivery.UNKNOWN
            ) from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            raise IssuerUnavailable(
                f"{host} gave no answer: {_kind(error)}: try again; if that does not help, check the proxy",
                delivery=wire.delivery(error),
            ) from None
        return Answer(response.status_code, response.headers, _members(received))

    async def aclose(self) -> None:
        """Close what is open. The next call opens it again."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def _open(self, host: str) -> "httpx.AsyncClient":
        if self._client is None:
            import httpx

            headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "authstate"}
            try:
                self._client = httpx.AsyncClient(
                    headers=headers,
                    follow_redirects=False,
                    limits=httpx.Limits(max_keepalive_connections=0),
                    verify=_trusted(*(os.environ.get(name) for name in _CA_VARIABLES)),
                )
            except (OSError, ValueError, ImportError, httpx.InvalidURL) as error:
                raise IssuerUnavailable(
                    f"{host} cannot be asked: the proxy or CA settings of the environment (HTTPS_PROXY, ALL_PROXY, "
                    f"SSL_CERT_FILE, SSL_CERT_DIR) cannot be used ({_kind(error)})"
                ) from None
        return self._client


@lru_cache(maxsize=4)
def _trusted(*ca_settings: str | None) -> "ssl.SSLContext":
    """Whom to trust by these settings of the environment. Made once: to read the CA bundle takes 50 ms."""
    import httpx

    return httpx.create_ssl_context()


def unavailable(answer: Answer, host: str, delivery: Delivery | None = None) -> IssuerUnavailable:
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
        IssuerUnavailable: the URL is none. It is not shown, since nobody knows what is in it.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname or not url.isprintable():
        raise IssuerUnavailable(
            f"{variable} is no http or https URL with a host: correct or unset it", delivery=Delivery.REFUSED
        )
    return parts.hostname if port is None else f"{parts.hostname}:{port}"


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
