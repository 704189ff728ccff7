"""What a person reads when a proxy, a certificate or a file of authorities is at fault, and what is not repeated."""

import asyncio
import os
import shutil
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import certifi
import httpx
import pytest
import truststore
from support.network_servers import Authority, FixedAnswer, TunnellingProxy, serving
from support.ports import private_port

from authstate import AuthEngine
from authstate.adapters.app_server.rate_limits import RateLimitsUnavailable, read_rate_limits
from authstate.adapters.network import certificates
from authstate.adapters.network.http_proxies import Network
from authstate.adapters.oauth.issuer_http import IssuerHttp
from authstate.adapters.oauth.token_endpoint import HttpTokenAuthority
from authstate.engine.model.errors import Delivery, IssuerUnavailable
from authstate.engine.model.secret import Secret
from authstate.engine.model.session import Authorization
from authstate.testing import MemoryStore, make_tokens

VARIABLES = (
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    *("CODEX_CA_CERTIFICATE", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUEST_METHOD"),
)
WANTS_PASSWORD = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@pytest.fixture(autouse=True)
def plain_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTHSTATE_ALLOW_HTTP_HOSTS", "issuer.example,backend.example,localhost")


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return Authority(tmp_path_factory.mktemp("authority"))


async def ask(url: str, **environ: str) -> Any:
    """One request, by these variables. What it failed with, or None."""
    http = IssuerHttp(Network.read(environ))
    try:
        answer = await http.post(url, httpx.URL(url).netloc.decode(), {"token": "rt_canary"}, 60)
        assert answer.succeeded
    except IssuerUnavailable as error:
        assert "rt_canary" not in str(error) and "hunter2" not in str(error)
        return error
    finally:
        await http.aclose()
    return None


# Certificates


@pytest.mark.parametrize(
    ("name", "days", "what"),
    [
        ("elsewhere.example", (-1, 1), "its certificate is for another name"),
        ("localhost", (-2, -1), "its certificate has expired: check the clock"),
        ("localhost", (1, 2), "its certificate is not valid yet: check the clock"),
    ],
)
async def test_what_is_wrong_with_a_certificate_is_said(
    authority: Any, name: str, days: tuple[int, int], what: str
) -> None:
    server = FixedAnswer()
    async with serving(server, authority.server(name, since=days[0], until=days[1])) as port:
        error = await ask(f"https://localhost:{port}/", CODEX_CA_CERTIFICATE=str(authority.file))
    assert str(error).startswith(f"localhost:{port} cannot be reached safely: {what}")
    assert error.delivery is Delivery.REFUSED
    assert server.heads == []


async def test_an_unknown_authority_is_said_with_what_helps(authority: Any) -> None:
    server = FixedAnswer()
    async with serving(server, authority.server("localhost")) as port:
        error = await ask(f"https://localhost:{port}/")
        assert "an authority that is not trusted here" in str(error) and "CODEX_CA_CERTIFICATE" in str(error)
        assert error.delivery is Delivery.REFUSED and server.heads == []
        assert await ask(f"https://localhost:{port}/", CODEX_CA_CERTIFICATE=str(authority.file)) is None
        assert await ask(f"https://localhost:{port}/", SSL_CERT_FILE=str(authority.file)) is None


async def test_what_speaks_no_tls_is_said() -> None:
    async def speak_plainly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(5)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        await reader.read()

    async with serving(speak_plainly) as port:
        error = await ask(f"https://localhost:{port}/")
    assert "does not speak TLS as it should" in str(error) and error.delivery is Delivery.REFUSED


async def test_who_only_goes_away_is_asked_again() -> None:
    async def go_away(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(5)

    async with serving(go_away) as port:
        error = await ask(f"https://localhost:{port}/")
    assert error.delivery is Delivery.NOT_SENT


# Files of authorities


def contexts(**environ: str) -> Any:
    return certificates.trust_settings(Network.read(environ))


def test_the_authorities_are_read_once_for_each_setting(authority: Any) -> None:
    first = contexts(SSL_CERT_FILE=str(authority.file))
    assert contexts(SSL_CERT_FILE=str(authority.file)) is first
    assert contexts(SSL_CERT_FILE=certifi.where()) is not first
    assert contexts() is contexts(SSL_CERT_FILE="", CODEX_CA_CERTIFICATE=" ")


def test_the_file_of_codex_adds_to_the_system_and_the_others_take_its_place(authority: Any) -> None:
    file = str(authority.file)
    assert type(contexts()) is truststore.SSLContext
    assert type(contexts(CODEX_CA_CERTIFICATE=file)) is truststore.SSLContext
    assert contexts(CODEX_CA_CERTIFICATE=file, SSL_CERT_FILE="missing", SSL_CERT_DIR="missing") is not None
    for environ in ({"SSL_CERT_FILE": file}, {"SSL_CERT_FILE": file, "SSL_CERT_DIR": "missing"}):
        assert contexts(**environ).cert_store_stats()["x509"] == 1


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to name the file")
async def test_a_folder_of_authorities(authority: Any, tmp_path: Path) -> None:
    (tmp_path / f"{_hash(authority.file)}.0").write_bytes(authority.file.read_bytes())
    async with serving(FixedAnswer(), authority.server("localhost")) as port:
        assert await ask(f"https://localhost:{port}/", SSL_CERT_DIR=str(tmp_path)) is None


def _hash(file: Path) -> str:
    return subprocess.check_output(["openssl", "x509", "-hash", "-noout", "-in", file], text=True).strip()


@pytest.mark.parametrize("name", ["CODEX_CA_CERTIFICATE", "SSL_CERT_FILE", "SSL_CERT_DIR"])
async def test_a_file_of_authorities_that_cannot_be_used_is_named_before_a_request(tmp_path: Path, name: str) -> None:
    (tmp_path / "text.pem").write_text("no certificate")
    (tmp_path / "broken.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    os.mkfifo(tmp_path / "pipe")  # as `<(...)` of a shell makes one: reading it could wait for ever
    server = FixedAnswer()
    async with serving(server) as port:
        for file in ("missing", "text.pem", "broken.pem", *([] if name == "SSL_CERT_DIR" else [".", "pipe"])):
            error = await ask(f"http://127.0.0.1:{port}/", **{name: str(tmp_path / file)})
            assert error.delivery is Delivery.REFUSED
            assert f"127.0.0.1:{port} cannot be asked: {name}: " in str(error) and str(tmp_path) in str(error)
            assert str(error).endswith("correct or unset it")
    assert server.heads == []


def context_of_the_system() -> ssl.SSLContext:
    """The context that truststore wraps, which counts its certificates."""
    wrapper: Any = certificates._system_context()
    context: ssl.SSLContext = wrapper._ctx
    return context


@pytest.mark.parametrize(("platform", "count"), [("linux", -1), ("darwin", 0), ("win32", 0)])
def test_a_system_without_authorities_gets_those_of_certifi(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, platform: str, count: int
) -> None:
    nothing = ssl.DefaultVerifyPaths(None, str(tmp_path), "", "", "", "")  # type: ignore[arg-type]  # as OpenSSL has it
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: nothing)
    monkeypatch.setattr(sys, "platform", platform)
    loaded = context_of_the_system().cert_store_stats()["x509"]
    assert loaded == (count if count == 0 else Path(certifi.where()).read_text().count("BEGIN CERTIFICATE"))
    (tmp_path / "0a0a0a0a.0").touch()
    assert context_of_the_system().cert_store_stats()["x509"] == 0


# Proxies


async def test_a_request_goes_through_the_proxy_and_gives_its_password(authority: Any) -> None:
    server = FixedAnswer()
    async with (
        serving(server, authority.server("localhost")) as port,
        serving(proxy := TunnellingProxy(port)) as through,
    ):
        error = await ask(
            "https://localhost:1/",
            HTTPS_PROXY=f"user:hunter2@127.0.0.1:{through}",
            all_proxy="socks://127.0.0.1:9/",
            CODEX_CA_CERTIFICATE=str(authority.file),
        )
    assert error is None
    assert len(server.heads) == 1
    assert proxy.heads[0].startswith(b"CONNECT localhost:1 ") and b"Basic " in proxy.heads[0]


async def test_an_exception_goes_direct(authority: Any) -> None:
    server, no_proxy = FixedAnswer(), "localhost,127.0.0.0/8,::1/128"
    async with serving(server) as port, serving(proxy := FixedAnswer()) as through:
        assert (
            await ask(f"http://127.0.0.1:{port}/", ALL_PROXY=f"http://127.0.0.1:{through}", NO_PROXY=no_proxy) is None
        )
        assert await ask(f"http://127.0.0.1:{port}/", NO_PROXY=no_proxy) is None
    assert len(server.heads) == 2 and proxy.heads == []


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_that_wants_a_password_is_asked_once(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    tokens = make_tokens(expires_in=-60)
    async with serving(proxy := FixedAnswer(WANTS_PASSWORD)) as through:
        monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{through}")
        authority = HttpTokenAuthority(f"{scheme}://issuer.example", "app")
        async with AuthEngine(MemoryStore(tokens), authority) as engine:
            with pytest.raises(IssuerUnavailable) as error:
                await engine.authorization()
    assert len(proxy.heads) == 1
    assert f"the proxy 127.0.0.1:{through} (ALL_PROXY) requires a user name and password (status 407)" in str(
        error.value
    )
    assert f"http://USER:PASSWORD@127.0.0.1:{through}" in str(error.value)


async def test_a_wrong_password_is_said() -> None:
    async with serving(FixedAnswer(WANTS_PASSWORD)) as through:
        error = await ask("https://issuer.example/", HTTPS_PROXY=f"http://user:hunter2@127.0.0.1:{through}")
    assert "did not accept the user name and password in HTTPS_PROXY" in str(error)
    assert error.delivery is Delivery.REFUSED


@pytest.mark.parametrize(
    ("status", "delivery"),
    [(403, Delivery.REFUSED), (429, Delivery.NOT_SENT), (502, Delivery.NOT_SENT), (503, Delivery.NOT_SENT)],
)
async def test_a_proxy_that_opens_no_way(status: int, delivery: Any) -> None:
    refusal = WANTS_PASSWORD.replace(b"407 Proxy Authentication Required", b"%d eyJsecret" % status)
    async with serving(FixedAnswer(refusal)) as through:
        error = await ask("https://issuer.example/", HTTPS_PROXY=f"http://127.0.0.1:{through}")
    assert f"(HTTPS_PROXY) does not connect to issuer.example (status {status})" in str(error)
    assert "eyJ" not in str(error)
    assert error.delivery is delivery


@pytest.mark.parametrize("url", ["http://issuer.example/", "https://issuer.example/"])
@pytest.mark.parametrize("scheme", ["http", "https", "socks5h"])
async def test_a_dead_proxy_is_named(url: str, scheme: str) -> None:
    through = private_port()
    error = await ask(url, ALL_PROXY=f"{scheme}://user:hunter2@127.0.0.1:{through}")
    assert str(error).startswith(f"the proxy 127.0.0.1:{through} (ALL_PROXY) cannot be reached, so issuer.example")
    assert error.delivery is Delivery.NOT_SENT


async def test_the_certificate_of_a_proxy_is_told_from_that_of_the_host(authority: Any) -> None:
    async with serving(FixedAnswer(), authority.server("localhost")) as through:
        error = await ask("https://issuer.example/", HTTPS_PROXY=f"https://localhost:{through}")
    assert str(error).startswith(f"the proxy localhost:{through} (HTTPS_PROXY) cannot be reached safely: ")
    async with (
        serving(FixedAnswer(), authority.server("localhost")) as port,
        serving(TunnellingProxy(port)) as through,
    ):
        error = await ask("https://localhost:7/", HTTPS_PROXY=f"http://localhost:{through}")
    assert str(error).startswith("localhost:7 cannot be reached safely: ")


async def test_a_setting_that_cannot_be_used_is_said_without_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "nonsense://user:hunter2@proxy")
    authority = HttpTokenAuthority("https://issuer.example", "app")
    async with AuthEngine(MemoryStore(make_tokens(expires_in=-60)), authority) as engine:
        with pytest.raises(IssuerUnavailable, match="cannot be asked: HTTPS_PROXY names an unknown kind") as error:
            await engine.authorization()
    assert "hunter2" not in str(error.value) and error.value.delivery is Delivery.REFUSED


async def test_a_host_of_a_proxy_that_httpx_refuses() -> None:
    error = await ask("https://issuer.example/", HTTPS_PROXY="http://user:hunter2@xn--a\u00df..:1")
    assert "HTTPS_PROXY" in str(error)


# The backend


class Engine:
    """Authorizes everything, and recovers nothing."""

    def fresh_authorization(self) -> Authorization | None:
        return None

    async def authorization(self) -> Authorization:
        return Authorization(Secret("sk-canary"), None, 1)

    async def recover(self, refused: Authorization) -> NoReturn:
        raise AssertionError("nothing was refused")


async def limits(url: str, **environ: str) -> Any:
    with pytest.raises(RateLimitsUnavailable) as error:
        await read_rate_limits(Engine(), url, network=Network.read(environ))
    assert "hunter2" not in str(error.value) and "canary" not in str(error.value)
    return str(error.value)


async def test_the_rate_limits_name_what_is_at_fault(authority: Any, tmp_path: Path) -> None:
    url = "https://backend.example"
    dead = private_port()
    through = f"http://user:hunter2@127.0.0.1:{dead}"
    assert "(HTTPS_PROXY) cannot be reached, so backend.example" in await limits(url, HTTPS_PROXY=through)
    assert "HTTPS_PROXY has no usable port" in await limits(url, HTTPS_PROXY="http://user:hunter2@proxy:none")
    assert "SSL_CERT_FILE: cannot read" in await limits(url, SSL_CERT_FILE=str(tmp_path / "missing"))
    async with serving(FixedAnswer(WANTS_PASSWORD)) as port:
        for base in ("http://backend.example", url):
            said = await limits(base, ALL_PROXY=f"http://127.0.0.1:{port}")
            assert "(ALL_PROXY) requires a user name and password (status 407)" in said
    async with serving(FixedAnswer(), authority.server("localhost")) as port:
        assert "localhost cannot be reached safely: " in await limits(f"https://localhost:{port}")
