"""The sockets that a broker listens on, and the certificate with which it does so beyond this machine."""

import errno
import os
import socket
import ssl
import stat
import sys
from contextlib import suppress

from authstate.adapters.config.home import ConfigError
from authstate.adapters.network.insecure_http import is_loopback
from authstate.adapters.stores.os_locks import FileLock
from authstate.adapters.vault.vault import VAULT_FOLDER

DEFAULT_ADDRESS = "127.0.0.1"
DEFAULT_PORT = 4517
SOCKET_VARIABLE = "AUTHSTATE_BROKER_SOCKET"
"""Names the unix socket of the broker, for the broker and for the commands that use it."""
HOME_HEADER = "authstate-home"
"""The header in which a broker names its home on the unix socket, percent-encoded."""
HAS_UNIX_SOCKETS = sys.platform != "win32"
"""Whether Python and asyncio serve unix sockets here."""

_LONGEST_PATH = 103 if sys.platform == "darwin" else 107  # bytes, without the zero at the end
_BACKLOG = 1024


def default_socket(home: str | os.PathLike[str]) -> str:
    """Return the path of a home's unix socket."""
    return os.path.join(home, VAULT_FOLDER, "broker.sock")


class Address:
    """A TCP address to listen on.

    Args:
        text: `ADDRESS:PORT`, where ADDRESS is a name, an IPv4 address or an IPv6 address in brackets. Port 0 is any.

    Raises:
        ConfigError: it is something else.
    """

    def __init__(self, text: str) -> None:
        host, colon, port = text.rpartition(":")
        self.host: str = host.removeprefix("[").removesuffix("]")
        is_bare_ipv6 = ":" in host and not host.startswith("[")
        is_port = port.isascii() and port.isdigit() and len(port) < 6 and int(port) < 65536
        if not colon or not self.host or is_bare_ipv6 or not is_port:
            raise ConfigError(
                f"--listen must be ADDRESS:PORT, such as {DEFAULT_ADDRESS}:{DEFAULT_PORT} or [::1]:{DEFAULT_PORT}"
            )
        self.port: int = int(port)

    @property
    def is_loopback(self) -> bool:
        """Whether only programs of this machine reach it."""
        return is_loopback(self.host)

    def listen(self) -> list[socket.socket]:
        """Listen on it; on all addresses of a name.

        Raises:
            ConfigError: it is not an address of this machine, or another program has it.
        """
        sockets: list[socket.socket] = []
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            for family, kind, protocol, _, address in dict.fromkeys(found):
                port = sockets[0].getsockname()[1] if sockets else self.port
                listener = socket.socket(family, kind, protocol)
                sockets.append(listener)
                _prepare(listener, family)
                listener.bind((address[0], port, *address[2:]))
                listener.listen(_BACKLOG)
                listener.setblocking(False)
        except UnicodeError:  # a label of the name is empty or too long
            said = f"{self.host} is no name of a host: name an address of this machine with --listen"
            raise ConfigError(said) from None
        except OSError as error:
            for listener in sockets:
                listener.close()
            raise ConfigError(self._explain(error)) from None
        return sockets

    def _explain(self, error: OSError) -> str:
        why = (error.strerror or type(error).__name__).lower()
        what = "name an address of this machine with --listen"
        if error.errno == errno.EADDRINUSE:
            what = "another broker may be running (`authstate status` shows it). End it, or name another port"
        return f"the broker cannot listen on {self.host}:{self.port}: {why}: {what}"


def _prepare(listener: socket.socket, family: int) -> None:
    if os.name == "posix":  # elsewhere it would let two programs share the port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)


def tls_context(address: Address, certificate: str | None, key: str | None) -> ssl.SSLContext | None:
    """Return the context for a certificate. None if there is none, which is allowed on loopback only.

    Args:
        address: to listen on.
        certificate: the path of a PEM file with the chain.
        key: the path of its private key, unless that is in the same file.

    Raises:
        ConfigError: a certificate is needed, or the files cannot be used.
    """
    if certificate is None:
        if key is not None:
            raise ConfigError("--tls-key needs the certificate as well: add --tls-certificate FILE")
        if not address.is_loopback:
            raise ConfigError(
                f"other machines can reach {address.host}, and access tokens must not travel unencrypted: add "
                f"--tls-certificate FILE and --tls-key FILE, or listen on {DEFAULT_ADDRESS} and use an ssh tunnel"
            )
        return None

    def no_password() -> str:
        raise ConfigError(f"the key {key or certificate} has a password: give the broker one without")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, no_password)
    except ssl.SSLError as error:
        why = (error.reason or "not a certificate").lower().replace("_", " ")
        raise ConfigError(
            f"the certificate {certificate} cannot be used: {why}: --tls-certificate and --tls-key name PEM files"
        ) from None
    except OSError as error:
        files = " or ".join(file for file in (certificate, key) if file)
        raise ConfigError(f"cannot read {files}: {(error.strerror or type(error).__name__).lower()}") from None
    return context


class UnixSocket:
    """A listening unix socket that only this user can connect to. Close it at the end.

    A lock beside it is held as long as it is served. It tells a broker that lives from one that was killed.

    Args:
        path: where it is. The folder must exist.

    Raises:
        ConfigError: the path is too long, another broker serves it, or something else is there.
        OSError: it cannot be created.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        length = len(os.fsencode(path))
        if length > _LONGEST_PATH:
            raise ConfigError(
                f"the path of the broker's socket, {path}, has {length} bytes, and the system allows {_LONGEST_PATH}: "
                f"name a shorter one in {SOCKET_VARIABLE}, for the broker and for the commands that use it"
            )
        self._lock = FileLock(f"{path}.lock")
        if not self._lock.acquire():
            raise ConfigError(f"another broker serves {path}: end it, or name another path with --socket")
        try:
            self.listener: socket.socket = _listen_at(path)
            self._stat = os.stat(path)
        except BaseException:
            self._lock.release()
            raise

    def close(self) -> None:
        """Remove the socket, unless somebody replaced it."""
        self.listener.close()
        with suppress(OSError):
            if os.path.samestat(self._stat, os.lstat(self.path)):
                os.unlink(self.path)
        self._lock.release()


def _listen_at(path: str) -> socket.socket:
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise ConfigError(f"{path} exists and is not a socket: move it away, or name another path with --socket")
        if _is_served(path):
            raise ConfigError(f"another program serves {path}: end it, or name another path with --socket")
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)  # the mode is never wider, not even for a moment
    try:
        listener.bind(path)
        os.chmod(path, 0o600)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(mask)
    return listener


def _is_served(path: str) -> bool:
    """Whether a program accepts connections there. It may hold no lock, as on a file system without locks."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True
    return True
