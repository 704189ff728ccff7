"""Configures our own httpx clients from a `Network`. Nothing else in the environment affects them."""

import os
import ssl
from typing import TypedDict

import httpx

from authstate.adapters.network.certificates import trust_settings
from authstate.adapters.network.http_proxies import Network, NetworkSettingError, Proxy


class ClientSettings(TypedDict):
    """Arguments of `httpx.AsyncClient`."""

    trust_env: bool
    proxy: httpx.Proxy | None
    verify: ssl.SSLContext


def client_settings(url: str, network: Network | None) -> tuple[ClientSettings, Proxy | None]:
    """Return the arguments of a client for a URL, and the proxy that it uses.

    Args:
        url: the URL of the requests. The client must not follow redirects, which may need another proxy.
        network: the proxies and certificate authorities; by default those of the environment.

    Raises:
        NetworkSettingError: a setting is invalid.
    """
    network = Network.read(os.environ) if network is None else network
    proxy, context = network.proxy_for(url), trust_settings(network)
    try:
        told = None if proxy is None else httpx.Proxy(proxy.url.reveal(), ssl_context=_for_a_proxy(proxy, context))
    except (httpx.InvalidURL, ValueError):
        raise NetworkSettingError(
            f"{proxy.setting if proxy else ''} is not the URL of a proxy: correct or unset it"
        ) from None
    return ClientSettings(trust_env=False, proxy=told, verify=context), proxy


def _for_a_proxy(proxy: Proxy, context: ssl.SSLContext) -> ssl.SSLContext | None:
    return context if proxy.scheme == "https" else None
