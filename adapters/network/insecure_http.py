"""Where a token may travel without TLS: on this machine, or where the person allows it by name."""

import os
from collections.abc import Mapping
from typing import Final

from authstate.adapters.network.proxies import urlsplit_or_none
from authstate.engine.model.errors import AuthError, strip_tracebacks

ALLOWED_HOSTS_VARIABLE: Final = "AUTHSTATE_ALLOW_HTTP_HOSTS"
"""Host names, with commas between them, that a token may be sent to over `http://`, as `host.docker.internal`."""

REMEDY: Final = (
    f"would send a token over http:// to a host that is not this machine: use https://, or name the host in "
    f"{ALLOWED_HOSTS_VARIABLE}"
)

_warned: set[str] = set()  # hosts, in this process


class InsecureTransport(AuthError):
    """A token would leave this machine without TLS. Nothing was sent."""


@strip_tracebacks
def ensure_secure(url: str, what: str, environ: Mapping[str, str] | None = None) -> None:
    """Check whether a token may go to a URL. What is no URL is left to whoever uses it.

    The first time that a host is allowed by name, the log has a warning.

    Args:
        url: where a token would go.
        what: what names it, for the message. The URL is not shown, since nobody knows what is in it.
        environ: where the allowed hosts are named; by default the environment of this process.

    Raises:
        InsecureTransport: it is an `http://` URL of another machine that nobody allowed.
    """
    parts = urlsplit_or_none(url)
    if parts is None or not url.isprintable():
        return
    host = (parts.hostname or "").lower()
    if parts.scheme != "http" or not host or is_loopback(host):
        return
    if host not in _allowed(os.environ if environ is None else environ):
        raise InsecureTransport(f"{what} {REMEDY}")
    if host not in _warned:
        _warned.add(host)
        import logging

        logging.getLogger("authstate.network").warning(
            "tokens go to %s over http://, because %s names it: anybody on the way can read them",
            host,
            ALLOWED_HOSTS_VARIABLE,
        )


def is_loopback(host: str) -> bool:
    """Whether a host of a URL is this machine: `localhost`, a name below it (RFC 6761), or a loopback address.

    No name is looked up. One that only begins so, as `127.0.0.1.example.com`, is another machine.
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
