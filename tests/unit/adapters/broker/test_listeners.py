"""Where a broker listens: addresses, certificates, and the unix socket."""

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from support.network_servers import Authority

from authstate.adapters.broker.listeners import Address, UnixSocket, tls_context
from authstate.adapters.config import ConfigError

LOOPBACK = Address("127.0.0.1:0")
on_unix = pytest.mark.skipif(os.name == "nt", reason="unix sockets")


@pytest.fixture
def path() -> Iterator[str]:
    """A path that is short enough on every machine."""
    with TemporaryDirectory() as folder:
        yield os.path.join(folder, "b.sock")


# Addresses


@pytest.mark.parametrize(
    ("text", "host", "is_loopback"),
    [
        ("127.0.0.1:4517", "127.0.0.1", True),
        ("localhost:4517", "localhost", True),
        ("[::1]:4517", "::1", True),
        ("0.0.0.0:4517", "0.0.0.0", False),
        ("broker.example.com:4517", "broker.example.com", False),
        ("127.0.0.1.example.com:4517", "127.0.0.1.example.com", False),
    ],
)
def test_an_address_is_read(text: str, host: str, is_loopback: bool) -> None:
    address = Address(text)
    assert (address.host, address.port, address.is_loopback) == (host, 4517, is_loopback)


@pytest.mark.parametrize("text", ["", "4517", ":4517", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "a:70000", "::1:4517"])
def test_an_address_that_is_none(text: str) -> None:
    with pytest.raises(ConfigError, match="ADDRESS:PORT"):
        Address(text)


def test_a_name_is_served_on_all_its_addresses_with_one_port() -> None:
    sockets = Address("localhost:0").listen()
    assert len({listener.getsockname()[1] for listener in sockets}) == 1
    for listener in sockets:
        listener.close()


def test_a_port_that_is_taken() -> None:
    [first] = LOOPBACK.listen()
    port = first.getsockname()[1]
    with pytest.raises(ConfigError, match=f"127.0.0.1:{port}.*another broker may be running"):
        Address(f"127.0.0.1:{port}").listen()
    first.close()
    with pytest.raises(ConfigError, match="an address of this machine"):
        Address("192.0.2.1:0").listen()


# Certificates


def test_other_machines_are_served_with_tls_only() -> None:
    assert tls_context(LOOPBACK, None, None) is None
    with pytest.raises(ConfigError, match="--tls-certificate FILE and --tls-key FILE"):
        tls_context(Address("0.0.0.0:4517"), None, None)
    with pytest.raises(ConfigError, match="needs the certificate"):
        tls_context(LOOPBACK, None, "key.pem")


def test_a_certificate_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*no\.pem.*no such file"):
        tls_context(LOOPBACK, str(tmp_path / "no.pem"), None)
    (tmp_path / "bad.pem").write_text("nonsense")
    with pytest.raises(ConfigError, match=r"bad\.pem cannot be used"):
        tls_context(LOOPBACK, str(tmp_path / "bad.pem"), None)


def test_a_key_with_a_password_is_not_asked_for(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

    Authority(tmp_path).server("localhost")
    [certificate] = tmp_path.glob("localhost*.pem")
    key = ec.generate_private_key(ec.SECP256R1())
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    (tmp_path / "locked.pem").write_bytes(locked)
    with pytest.raises(ConfigError, match="has a password"):
        tls_context(LOOPBACK, str(certificate), str(tmp_path / "locked.pem"))


# The unix socket


@on_unix
def test_only_this_user_can_connect(path: str) -> None:
    mask = os.umask(0)
    try:
        unix = UnixSocket(path)
    finally:
        assert os.umask(mask) == 0, "the mask is as it was"
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    unix.close()
    assert not os.path.exists(path)


@on_unix
def test_a_broker_that_lives_keeps_its_socket(path: str) -> None:
    unix = UnixSocket(path)
    with pytest.raises(ConfigError, match="another broker serves"):
        UnixSocket(path)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
    unix.close()
    UnixSocket(path).close()


@on_unix
def test_the_socket_of_a_killed_broker_is_replaced(path: str) -> None:
    program = """
import os, sys
from authstate.adapters.broker.listeners import UnixSocket
UnixSocket(sys.argv[1])
os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", program, path], check=False).returncode == 9
    assert os.path.exists(path)
    unix = UnixSocket(path)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
    unix.close()


@on_unix
def test_another_programs_socket_is_left_alone(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        other.listen()
        with pytest.raises(ConfigError, match="another program serves"):
            UnixSocket(path)


@on_unix
def test_a_file_at_its_place_is_left_alone(path: str) -> None:
    Path(path).write_text("mine")
    with pytest.raises(ConfigError, match="is not a socket"):
        UnixSocket(path)
    assert Path(path).read_text() == "mine"


@on_unix
def test_a_socket_that_was_replaced_is_left_to_its_owner(path: str) -> None:
    unix = UnixSocket(path)
    os.unlink(path)
    Path(path).write_text("of somebody else")
    unix.close()
    assert os.path.exists(path)


@on_unix
def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="AUTHSTATE_BROKER_SOCKET"):
        UnixSocket(str(tmp_path / ("x" * 120)))
