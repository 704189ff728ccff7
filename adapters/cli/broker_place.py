"""Where the broker of a home is, as its clients reach it, and whether one answers there."""

import os
from typing import Any

import msgspec

from authstate.adapters.broker.local_client import BrokerClient
from authstate.adapters.config import ConfigError, Environment
from authstate.adapters.config.settings import TOKEN_PATH
from authstate.adapters.network.http_proxies import Network, NetworkSettingError

_PROBE_WITHIN = 2.0  # seconds


def url_in_environment(environment: Environment) -> str | None:
    """Return the URL of the broker that the environment names, without a slash at the end. None if it names none.

    A home with a lease may name it by codex's variable alone.
    """
    named = environment.refresh_url if environment.broker is None else environment.broker.refresh_url
    return None if named is None else named.removesuffix(TOKEN_PATH).rstrip("/")


async def home_has_broker(environment: Environment) -> bool:
    """Whether a broker of the home answers at its unix socket."""
    client = BrokerClient.of(environment.home, os.environ)
    return client is not None and await client.get("/v1/state") is not None


async def broker_answers(url: str, network: Network | None) -> bool:
    """Whether a broker answers at a URL within 2 seconds. No secret is sent there.

    Args:
        url: without a slash at the end.
        network: proxies and certificate authorities; by default those of the environment.
    """
    import httpx  # imported here: few commands ask

    from authstate.adapters.network.http_clients import client_settings

    try:
        settings, _ = client_settings(url, network)
        async with httpx.AsyncClient(**settings, timeout=_PROBE_WITHIN) as client:
            answer = await client.get(f"{url}/healthz", follow_redirects=False)
    except (httpx.HTTPError, httpx.InvalidURL, NetworkSettingError, ConfigError, OSError):
        return False
    return _is_broker(answer.status_code, answer.content)


def _is_broker(status: int, body: bytes) -> bool:
    """Whether it is the answer of a broker to `GET /healthz`.

    That of `authstate run` serves no GET, and another one may not be allowed to be reached under this name.
    """
    try:
        members: Any = msgspec.json.decode(body)
    except ValueError:
        return False
    name = {200: "status", 503: "status", 405: "error", 421: "error"}.get(status)
    return isinstance(members, dict) and name in members
