"""Explains failed requests to the person: problems with TLS, and with a proxy."""

import ssl
from typing import Final

import msgspec

from authstate.adapters.network.http_proxies import Proxy

_UNKNOWN_CA: Final = (
    "its certificate is of an authority that is not trusted here. If your organization inspects the network, ask for "
    "its CA certificate, and add it to the system's store or name its PEM file in CODEX_CA_CERTIFICATE"
)
_WRONG_NAME: Final = "its certificate is for another name: check the URL, the network and the proxy"
_EXPIRED: Final = "its certificate has expired: check the clock of this machine, the network and the proxy"
_TOO_EARLY: Final = "its certificate is not valid yet: check the clock of this machine"
_OTHER: Final = "its certificate cannot be trusted (OpenSSL's error {code}): check the network and the proxy"
_NO_TLS: Final = "what answers there does not speak TLS as it should: check the URL (http or https) and the proxy"

_BY_CODE: Final = {
    **dict.fromkeys((2, 18, 19, 20, 21), _UNKNOWN_CA),
    **dict.fromkeys((62, 63, 64), _WRONG_NAME),
    10: _EXPIRED,
    9: _TOO_EARLY,
}
"""Explanations by OpenSSL's error codes for certificates (`X509_V_ERR_...`)."""


class RequestFailure(msgspec.Struct, frozen=True):
    """Why a request got no response."""

    message: str
    """What failed, and what to do."""
    is_permanent: bool
    """Whether the same request would fail again in the same way."""


def explain_failure(
    error: Exception, host: str, proxy: Proxy | None, *, is_at_proxy: bool = False
) -> RequestFailure | None:
    """Explain a failure of TLS or of the proxy. None for other failures.

    Args:
        error: the exception of httpx.
        host: the host of the request.
        proxy: the proxy of the request.
        is_at_proxy: whether the connection to the proxy itself failed.
    """
    import httpx

    tls = _tls(error)
    if tls is not None:
        who = str(proxy) if is_at_proxy else host
        return RequestFailure(f"{who} cannot be reached safely: {tls}", is_permanent=True)
    if proxy is None:
        return None
    if isinstance(error, httpx.ProxyError):
        status = str(error).partition(" ")[0]
        return explain_proxy_refusal(int(status) if status.isdigit() else 0, host, proxy)
    if isinstance(error, httpx.ConnectError):
        return RequestFailure(
            f"{proxy} cannot be reached, so {host} cannot be asked: check that it runs and that {proxy.setting} is "
            f"right, or name {_without_port(host)} in NO_PROXY",
            is_permanent=False,
        )
    if isinstance(error, httpx.ConnectTimeout):
        return RequestFailure(
            f"{proxy} did not connect to {host} in time: check the network and {proxy.setting}",
            is_permanent=False,
        )
    return None


def explain_proxy_refusal(status: int, host: str, proxy: Proxy) -> RequestFailure:
    """Explain why a proxy did not connect to the host.

    Args:
        status: the HTTP status; 0 if there is none, as with SOCKS.
        host: the host of the request.
        proxy: the proxy of the request.
    """
    if status == 407 and proxy.has_password:
        return RequestFailure(
            f"{proxy} did not accept the user name and password in {proxy.setting} (status 407): correct them there",
            is_permanent=True,
        )
    if status == 407:
        return RequestFailure(
            f"{proxy} requires a user name and password (status 407): write them into {proxy.setting}, as "
            f"{proxy.scheme}://USER:PASSWORD@{proxy.address}",
            is_permanent=True,
        )
    said = f"status {status}" if status else "it refused the connection"
    return RequestFailure(
        f"{proxy} does not connect to {host} ({said}): ask who runs it, or name {_without_port(host)} in NO_PROXY",
        is_permanent=400 <= status < 500 and status not in (408, 425, 429),
    )


def _tls(error: BaseException) -> str | None:
    """Explain a TLS error. None for other errors, and if the other side only closed the connection."""
    seen: BaseException | None = error
    for _ in range(8):
        if isinstance(seen, ssl.SSLCertVerificationError):
            code = getattr(seen, "verify_code", 0)
            return _BY_CODE.get(code) or _OTHER.format(code=code)
        if isinstance(seen, ssl.SSLError) and not isinstance(seen, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return _NO_TLS
        seen = (seen.__cause__ or seen.__context__) if seen is not None else None
    return None


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host
