"""Reads the network settings of the environment: proxies, exceptions from them, and files of certificate authorities.

The values are kept as secrets, because the URL of a proxy may hold a password. The proxy for a URL is chosen in codex's
order: HTTPS_PROXY before https_proxy, then ALL_PROXY and all_proxy. A variable that is set but empty hides the
lower-case one. An invalid variable is an error only if no other variable names a proxy for the URL.

Nothing here imports an HTTP client.
"""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import msgspec

from authstate.engine.model.errors import AuthstateError
from authstate.engine.model.secret import Secret

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network
    from urllib.parse import SplitResult

CA_VARIABLES: Final = ("CODEX_CA_CERTIFICATE", "SSL_CERT_FILE", "SSL_CERT_DIR")
"""The variables for certificate authorities. Only the first that is set is used."""

_ALL: Final = ("ALL_PROXY", "all_proxy")
_PROXIES: Final = {
    "https": (("HTTPS_PROXY", "https_proxy"), _ALL),
    "http": (("HTTP_PROXY", "http_proxy"), _ALL),
}
_EXCEPTIONS: Final = ("NO_PROXY", "no_proxy")
_CGI_UNSAFE: Final = ("HTTP_PROXY", "http_proxy")  # in a CGI program, a client sets them with its header `Proxy`
_VARIABLES: Final = (*CA_VARIABLES, *_EXCEPTIONS, *_ALL, *_PROXIES["https"][0], *_PROXIES["http"][0])
_PORTS: Final = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
_SYSTEM: Final = "the system's proxy settings"
_FORM: Final = "write it as http://HOST:PORT or http://USER:PASSWORD@HOST:PORT"
_ENCODE: Final = "in a user name or password, write characters such as # / : @ as %23 %2F %3A %40"


class NetworkSettingError(AuthstateError):
    """A network setting is invalid. The message names the variable and the problem, never the value."""


class NetworkVariable(msgspec.Struct, frozen=True):
    """A variable that is set."""

    name: str
    """How a message names it."""
    value: Secret


class Proxy(msgspec.Struct, frozen=True):
    """A usable proxy."""

    url: Secret
    scheme: str
    address: str
    """Host and port. Messages may show it."""
    setting: str
    """The variable that names the proxy."""
    has_password: bool

    def __str__(self) -> str:
        return f"the proxy {self.address} ({self.setting})"


class Network(msgspec.Struct, frozen=True):
    """The network settings in environment variables. A variable that is not in `settings` is not set."""

    settings: tuple[tuple[str, NetworkVariable], ...] = ()

    @classmethod
    def read(cls, environ: Mapping[str, str], file: Mapping[str, str] | None = None, place: str = "") -> "Network":
        """Select the variables that concern the network. A value is checked only when it is used.

        HTTP_PROXY is ignored if REQUEST_METHOD is set, as in a CGI program: there, a client can set it.

        Args:
            environ: the environment variables.
            file: the variables in a file, which take precedence.
            place: the path of that file, for the messages.
        """
        file = file or {}
        variables = {**environ, **file}
        ignored = _CGI_UNSAFE if "REQUEST_METHOD" in variables else ()
        names = [name for name in _VARIABLES if name in variables and name not in ignored]
        shown = {name: f"{name} in {place}" if name in file else name for name in names}
        return cls(tuple((name, NetworkVariable(shown[name], Secret(variables[name].strip()))) for name in names))

    def certificates(self) -> tuple[str, NetworkVariable] | None:
        """Return the variable that names the certificate authorities, and its setting. None if none is set."""
        settings = dict(self.settings)
        return next(
            ((name, settings[name]) for name in CA_VARIABLES if name in settings and settings[name].value), None
        )

    def proxy_for(self, url: str) -> Proxy | None:
        """Return the proxy for a request to this URL. None if the request goes direct.

        Raises:
            NetworkSettingError: the proxy for this URL cannot be used.
        """
        parts = urlsplit_or_none(url)
        if parts is None or not parts.hostname or self._is_exception(parts):
            return None
        fault: NetworkSettingError | None = None
        for names in _PROXIES.get(parts.scheme, ()):
            setting = self._first_set(names)
            if setting is None:
                continue
            try:
                return _ensure_socks_package(_parse(setting))
            except _NotAProxy as error:
                fault = fault or NetworkSettingError(str(error))
        if fault is not None:
            raise fault
        setting = self._system_proxy(parts)
        return None if setting is None else _ensure_socks_package(_parse(setting))

    def _first_set(self, names: tuple[str, ...]) -> NetworkVariable | None:
        """Return the first of these variables that is set. None if it is empty, or if none is set."""
        settings = dict(self.settings)
        setting = next((settings[name] for name in names if name in settings), None)
        return setting if setting is not None and setting.value else None

    def _is_exception(self, parts: "SplitResult") -> bool:
        setting = self._first_set(_EXCEPTIONS)
        if setting is None:
            return False
        host, port = (parts.hostname or "").rstrip("."), parts.port or _PORTS.get(parts.scheme, 0)
        entries = setting.value.reveal().replace(",", " ").lower().split()
        return any(_entry_matches(entry.rpartition("://")[2], host, port) for entry in entries)

    def _system_proxy(self, parts: "SplitResult") -> NetworkVariable | None:
        """Return the proxy in the settings of macOS or Windows, if no variable names a proxy."""
        is_named = any(name in dict(self.settings) for name in (*_PROXIES["https"][0], *_PROXIES["http"][0], *_ALL))
        if is_named or sys.platform not in ("darwin", "win32"):
            return None
        from urllib.request import getproxies, proxy_bypass

        value = getproxies().get(parts.scheme)
        return NetworkVariable(_SYSTEM, Secret(value)) if value and not proxy_bypass(parts.hostname or "") else None


class _NotAProxy(NetworkSettingError):
    """The value is not the URL of a known kind of proxy. Another variable may still name one."""


def urlsplit_or_none(url: str) -> "SplitResult | None":
    """Split a URL. None if it is invalid."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts


def _parse(setting: NetworkVariable) -> Proxy:
    """Parse the value of a variable. Raises _NotAProxy."""
    text = setting.value.reveal()
    text = text if "://" in text else f"http://{text}"
    if text.partition("://")[0].lower() not in _PORTS:
        raise _NotAProxy(f"{setting.name} names an unknown kind of proxy: {_FORM}, or with socks5h:// for SOCKS")
    parts = urlsplit_or_none(text)
    if parts is None or parts.port == 0:
        raise _NotAProxy(f"{setting.name} has no usable port, which is a number from 1 to 65535: {_FORM}; {_ENCODE}")
    if not parts.hostname or not text.isprintable() or " " in text:
        raise _NotAProxy(f"{setting.name} is not the URL of a proxy: {_FORM}; {_ENCODE}")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return Proxy(
        url=Secret(text),
        scheme=parts.scheme,
        address=f"{host}:{parts.port or _PORTS[parts.scheme]}",
        setting=setting.name,
        has_password=parts.username is not None,
    )


def _ensure_socks_package(proxy: Proxy) -> Proxy:
    """Return the proxy.

    Raises:
        NetworkSettingError: it is a SOCKS proxy, and the package for SOCKS is missing.
    """
    if proxy.scheme.startswith("socks"):
        try:
            import socksio  # noqa: F401
        except ImportError:
            raise NetworkSettingError(
                f"{proxy.setting} names a SOCKS proxy, for which a package is missing: install authstate[socks] "
                "(pip install 'authstate[socks]'), or name an http proxy"
            ) from None
    return proxy


def _entry_matches(entry: str, host: str, port: int) -> bool:
    """Return whether an entry of NO_PROXY matches a host: `*`, an address, a network, or a domain with subdomains."""
    from ipaddress import ip_address

    if entry == "*":
        return True
    network = _ip_network(entry)
    if network is not None:
        try:
            return ip_address(host) in network
        except ValueError:
            return False
    name, colon, digits = entry.rpartition(":")
    if colon and digits.isascii() and digits.isdigit():
        return int(digits) == port and _entry_matches(name, host, port)
    domain = entry.removeprefix("*").strip(".")
    return bool(domain) and (host == domain or host.endswith(f".{domain}"))


def _ip_network(entry: str) -> "IPv4Network | IPv6Network | None":
    from ipaddress import ip_network

    try:
        return ip_network(entry[1:-1] if entry.startswith("[") and entry.endswith("]") else entry, strict=False)
    except ValueError:
        return None
