"""Decides where a token may be sent without TLS: on this machine, or to hosts that the person allows by name."""

import os
from collections.abc import Mapping
from typing import Final

from authstate.adapters.network.http_proxies import urlsplit_or_none
from authstate.engine.model.errors import AuthError, strip_tracebacks

ALLOWED_HOSTS_VARIABLE: Final = "AUTHSTATE_ALLOW_HTTP_HOSTS"
"""Comma-separated hosts that a token may be sent to over `http://`, such as `host.docker.internal`."""

REMEDY: Final = (
    f"would send a token over http:// to a host that is not this machine: use https://, or name the host in "
    f"{ALLOWED_HOSTS_VARIABLE}"
)

_warned: set[str] = set()  # hosts, in this process


class InsecureTransport(AuthError):
    """A token would leave this machine without TLS. Nothing was sent."""


@strip_tracebacks
def ensure_secure(url: str, what: str, environ: Mapping[str, str] | None = None) -> None:
    """Check that a token may be sent to a URL. An invalid URL passes: the code that uses it reports it.

    Logs a warning the first time a host is allowed by name.

    Args:
        url: where a token would be sent.
        what: the setting that names the URL, for the message. The URL itself may hold secrets and is not shown.
        environ: the environment variables; by default those of this process.

    Raises:
        InsecureTransport: it is an `http://` or `ws://` URL of another machine that is not allowed.
    """
    parts = urlsplit_or_none(url)
    if parts is None or not url.isprintable():
        return
    host = (parts.hostname or "").lower()
    if parts.scheme not in ("http", "ws") or not host or is_loopback(host):
        return
    if host not in _allowed(os.environ if environ is None else environ):
        raise InsecureTransport(f"{what} {REMEDY}")
    if host not in _warned:
        _warned.add(host)
        from authstate.adapters.logs.loggers import library_logger  # imported here: few people allow a host

        library_logger("network").warning(
            "tokens go to %s over http://, because %s names it: anybody on the way can read them",
            host,
            ALLOWED_HOSTS_VARIABLE,
        )


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine: `localhost`, a name below it (RFC 6761), or a loopback address.

    Names are not resolved. `127.0.0.1.example.com` is another machine.
    """
    name = host.lower().removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    from ipaddress import ip_address  # imported here: few people set a URL

    try:
        address = ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _allowed(environ: Mapping[str, str]) -> frozenset[str]:
    return frozenset(name.strip().lower() for name in environ.get(ALLOWED_HOSTS_VARIABLE, "").split(",")) - {""}
