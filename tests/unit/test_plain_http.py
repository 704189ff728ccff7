"""A token leaves this machine over TLS only, unless the person allows a host by name."""

from urllib.parse import urlsplit

import pytest

from authstate.adapters.oauth.issuer_http import host_of
from authstate.adapters.oauth.token_endpoint import HttpTokenAuthority
from authstate.adapters.plain_http import ALLOWED_HOSTS_VARIABLE, is_refused
from authstate.adapters.rate_limits import RateLimitsUnavailable, read_rate_limits
from authstate.adapters.testing import FakeAuthority, MemoryStore, make_tokens
from authstate.engine.core import AuthEngine
from authstate.engine.credentials import Secret
from authstate.engine.errors import Delivery, IssuerUnavailable

THIS_MACHINE = (
    *("http://localhost:1455", "http://LOCALHOST", "http://localhost.", "http://auth.localhost", "http://127.0.0.1"),
    *("http://127.8.9.10:80", "http://[::1]:8080", "http://[::ffff:127.0.0.1]", "http://user@localhost"),
)
OTHERS = (
    *(
        "http://issuer.example",
        "http://127.0.0.1.evil.example",
        "http://localhost.evil.example",
        "http://evillocalhost",
    ),
    *("http://localhost@evil.example", "http://localhost:80@evil.example", "http://192.168.0.2", "http://0.0.0.0"),
    *("http://[::ffff:10.0.0.1]", "http://[::]", "HTTP://evil.example", "http://host.docker.internal"),
)


@pytest.fixture(autouse=True)
def nothing_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ALLOWED_HOSTS_VARIABLE, raising=False)


@pytest.mark.parametrize("url", [*THIS_MACHINE, "https://issuer.example"])
def test_this_machine_and_tls_are_allowed(url: str) -> None:
    assert not is_refused(urlsplit(url))
    assert host_of(url, "VARIABLE")


@pytest.mark.parametrize("url", OTHERS)
def test_http_to_another_machine_is_refused(url: str) -> None:
    with pytest.raises(IssuerUnavailable, match="VARIABLE .*http://.*" + ALLOWED_HOSTS_VARIABLE) as refused:
        host_of(url, "VARIABLE")
    assert refused.value.delivery is Delivery.REFUSED


def test_a_host_is_allowed_by_its_whole_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ALLOWED_HOSTS_VARIABLE, " Host.Docker.Internal , 10.0.0.1,")
    assert not is_refused(urlsplit("http://host.docker.internal:8080/x"))
    assert not is_refused(urlsplit("http://10.0.0.1"))
    assert is_refused(urlsplit("http://evil.host.docker.internal"))
    assert is_refused(urlsplit("http://10.0.0.2"))


async def test_no_token_endpoint_and_no_backend_is_asked() -> None:
    authority = HttpTokenAuthority("http://issuer.example", "client")
    elsewhere = HttpTokenAuthority("https://issuer.example", "client", revoke_url="http://issuer.example/revoke")
    for call in (authority.refresh, authority.revoke, elsewhere.revoke):
        with pytest.raises(IssuerUnavailable, match=ALLOWED_HOSTS_VARIABLE):
            await call(Secret("rt"))
    tokens = make_tokens()
    engine = AuthEngine(MemoryStore(tokens), FakeAuthority(tokens))
    await engine.start()
    with pytest.raises(RateLimitsUnavailable, match="chatgpt_base_url .*" + ALLOWED_HOSTS_VARIABLE):
        await read_rate_limits(engine, "http://backend.example")
    await engine.close(0)
