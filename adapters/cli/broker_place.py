"""Where the broker of a home is, as its clients reach it, and whether one answers there."""

import os
from typing import TYPE_CHECKING, Any

import msgspec

from authstate.adapters.broker.listeners import DEFAULT_ADDRESS, DEFAULT_PORT
from authstate.adapters.broker.local_client import BrokerClient
from authstate.adapters.config import ConfigError, Environment
from authstate.adapters.config.settings import REVOKE_PATH, TOKEN_PATH, ensure_secure_setting
from authstate.adapters.network.http_proxies import Network, NetworkSettingError, urlsplit_or_none

if TYPE_CHECKING:
    from urllib.parse import SplitResult

DEFAULT_URL = f"http://{DEFAULT_ADDRESS}:{DEFAULT_PORT}"
START = "start `authstate broker`, or a service that keeps it running (`authstate broker --print-unit systemd`)"
"""What to do if no broker answers."""

_WILDCARDS = ("0.0.0.0", "::", "")
_PROBE_WITHIN = 2.0  # seconds


class BrokerPlace(msgspec.Struct, frozen=True):
    """Where clients reach the broker of a home."""

    url: str
    """Without a slash at the end."""
    answers: bool
    """Whether a broker of the home runs, as far as can be seen from here."""


async def find_broker(environment: Environment, named: str | None) -> BrokerPlace:
    """Return where clients reach the broker of the home.

    That is the URL that was named, or else that of the running broker, or else the one in the environment, or else that
    of the default port.

    Args:
        environment: what was configured.
        named: with `--broker-url`.

    Raises:
        ConfigError: it is not the URL of a broker, would carry tokens to another machine without TLS, or cannot be
            known.
    """
    state = await _state_of_home(environment)
    if named is not None:
        url, has_path = _checked(named)
        answers = (state is not None and not has_path) or await broker_answers(url, environment.network)
        if has_path and not answers:
            raise ConfigError(
                f"--broker-url {url} has a path, and no broker answers there: leave the path out, or start the service "
                "that mounts the broker below it"
            )
        return BrokerPlace(url, answers)
    running = state.get("url") if state is not None else None
    if not isinstance(running, str):
        url = DEFAULT_URL if environment.broker is None else environment.broker.refresh_url.removesuffix(TOKEN_PATH)
        return BrokerPlace(url, await broker_answers(url, environment.network))
    found = urlsplit_or_none(running)
    if found is None or found.hostname in _WILDCARDS:
        raise ConfigError(
            f"the broker listens on every address ({running}): say with --broker-url how clients reach it"
        )
    return BrokerPlace(running, answers=True)


async def find_named_broker(environment: Environment, named: str) -> BrokerPlace:
    """Return a broker that was named, whichever accounts it has. Raises ConfigError: this is no URL of a broker."""
    url, _ = _checked(named)
    return BrokerPlace(url, await broker_answers(url, environment.network))


def _checked(named: str) -> tuple[str, bool]:
    """Return the URL that was named, without a slash at the end, and whether it has a path. Raises ConfigError."""
    parts: SplitResult | None = urlsplit_or_none(named)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname or not named.isprintable():
        raise ConfigError("--broker-url must be a URL such as https://HOST:PORT")
    if "?" in named or "#" in named or "@" in parts.netloc:
        raise ConfigError(
            "--broker-url must be a URL such as https://HOST:PORT, without a query, a fragment and a password"
        )
    ensure_secure_setting(named, "--broker-url", os.environ)
    url = named.rstrip("/")
    if url.endswith((TOKEN_PATH, REVOKE_PATH)):
        base = url.removesuffix(TOKEN_PATH).removesuffix(REVOKE_PATH)
        raise ConfigError(f"--broker-url names an endpoint of the broker, not the broker: use {base}")
    return url, bool(parts.path.rstrip("/"))


def url_in_environment(environment: Environment) -> str | None:
    """Return the URL of the broker that the environment names, without a slash at the end. None if it names none.

    A home with a lease may name it by codex's variable alone.
    """
    named = environment.refresh_url if environment.broker is None else environment.broker.refresh_url
    return None if named is None else named.removesuffix(TOKEN_PATH).rstrip("/")


async def home_has_broker(environment: Environment) -> bool:
    """Whether a broker of the home answers at its unix socket."""
    return await _state_of_home(environment) is not None


async def _state_of_home(environment: Environment) -> dict[str, Any] | None:
    """Return what the running broker of the home says of itself. None if there is none."""
    client = BrokerClient.of(environment.home, os.environ)
    return None if client is None else await client.get("/v1/state")


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
