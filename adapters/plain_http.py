"""Where a token may travel without TLS: on this machine, or where the person allows it by name."""

import os
from ipaddress import ip_address
from typing import Final
from urllib.parse import SplitResult

ALLOWED_HOSTS_VARIABLE: Final = "AUTHSTATE_ALLOW_HTTP_HOSTS"
"""Host names, with commas between them, that a token may be sent to over `http://`, as `host.docker.internal`."""

REMEDY: Final = (
    f"would send a token over http:// to a host that is not this machine: use https://, or name the host in "
    f"{ALLOWED_HOSTS_VARIABLE}"
)


def is_refused(url: SplitResult) -> bool:
    """Whether this is an `http://` URL of another machine that nobody allowed."""
    host = (url.hostname or "").lower()
    return url.scheme == "http" and not is_loopback(host) and host not in _allowed()


def is_loopback(host: str) -> bool:
    """Whether a host of a URL is this machine: `localhost`, a name below it (RFC 6761), or a loopback address.

    No name is looked up. One that only begins so, as `127.0.0.1.example.com`, is another machine.
    """
    name = host.lower().removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _allowed() -> frozenset[str]:
    return frozenset(name.strip().lower() for name in os.environ.get(ALLOWED_HOSTS_VARIABLE, "").split(",")) - {""}
