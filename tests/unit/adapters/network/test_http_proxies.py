"""Which proxy a URL goes through, and what is said of settings that cannot be used."""

import sys
import urllib.request
from typing import Any

import pytest

from authstate.adapters.network.http_proxies import Network, NetworkSettingError

URL = "https://auth.example/oauth/token"
GOOD = "http://good.example:3128"


def address(environ: dict[str, str], url: str = URL) -> str | None:
    proxy = Network.read(environ).proxy_for(url)
    return None if proxy is None else proxy.address


@pytest.mark.parametrize(
    ("environ", "chosen"),
    [
        ({}, None),
        ({"https_proxy": GOOD}, "good.example:3128"),
        ({"HTTPS_PROXY": "http://upper:1", "https_proxy": "http://lower:1"}, "upper:1"),
        ({"HTTPS_PROXY": "", "https_proxy": GOOD}, None),
        ({"HTTPS_PROXY": " ", "ALL_PROXY": GOOD}, "good.example:3128"),
        ({"http_proxy": "http://other:1"}, None),
        ({"https_proxy": GOOD, "all_proxy": "socks://127.0.0.1:1080/"}, "good.example:3128"),
        ({"HTTPS_PROXY": "ftp://other:1", "ALL_PROXY": GOOD}, "good.example:3128"),
        ({"HTTPS_PROXY": "http://other:port", "ALL_PROXY": GOOD}, "good.example:3128"),
        ({"HTTPS_PROXY": "good.example"}, "good.example:80"),
        ({"HTTPS_PROXY": "user:pass@good.example:3128"}, "good.example:3128"),
        ({"HTTPS_PROXY": " https://good.example/ "}, "good.example:443"),
        ({"HTTPS_PROXY": "HTTP://good.example:8"}, "good.example:8"),
        ({"HTTPS_PROXY": "http://[::1]:8"}, "[::1]:8"),
    ],
)
def test_the_proxy_of_an_https_url(environ: dict[str, str], chosen: Any) -> None:
    assert address(environ) == chosen


def test_the_proxy_of_an_http_url() -> None:
    plain = "http://auth.example/"
    assert address({"HTTP_PROXY": GOOD, "HTTPS_PROXY": "http://other:1"}, plain) == "good.example:3128"
    assert address({"http_proxy": GOOD, "REQUEST_METHOD": "GET"}, plain) is None
    assert (
        address({"HTTP_PROXY": "http://evil:1", "REQUEST_METHOD": "", "all_proxy": GOOD}, plain) == "good.example:3128"
    )
    assert address({"HTTPS_PROXY": GOOD, "REQUEST_METHOD": "GET"}) == "good.example:3128"


@pytest.mark.parametrize(
    ("entries", "url", "is_direct"),
    [
        ("localhost,127.0.0.0/8,::1/128", "http://127.0.0.1:8080/", True),
        ("localhost,127.0.0.0/8,::1/128", "http://127.9.9.9/", True),
        ("localhost,127.0.0.0/8,::1/128", "http://[::1]:8080/", True),
        ("localhost,127.0.0.0/8,::1/128", "http://localhost:1/", True),
        ("localhost,127.0.0.0/8,::1/128", "http://[::2]/", False),
        ("localhost,127.0.0.0/8,::1/128", URL, False),
        (" localhost , auth.example ", URL, True),
        ("localhost auth.example", URL, True),
        ("*", URL, True),
        ("auth.example", "https://AUTH.example./", True),
        ("AUTH.Example", URL, True),
        ("auth.example.", URL, True),
        ("example", URL, True),
        (".example", URL, True),
        ("*.example", URL, True),
        (".auth.example", URL, True),
        ("th.example", URL, False),
        ("auth.example:443", URL, True),
        ("auth.example:8443", URL, False),
        ("[::1]:80", "http://[::1]/", True),
        ("[::1]:81", "http://[::1]/", False),
        ("[::1]", "http://[::1]:5/", True),
        ("127.0.0.1:80", "http://127.0.0.1/", True),
        ("10.0.0.0/8", "http://11.0.0.1/", False),
        ("10.0.0.5/8", "http://10.1.1.1/", True),
        ("https://auth.example", URL, True),
        ("", URL, False),
        (",.,*.,/", URL, False),
        ("10.0.0.0/99", URL, False),
    ],
)
def test_an_exception_from_the_proxy(entries: str, url: str, is_direct: bool) -> None:
    assert (address({"ALL_PROXY": GOOD, "no_proxy": entries}, url) is None) is is_direct


def test_the_upper_case_name_of_the_exceptions_counts() -> None:
    assert address({"ALL_PROXY": GOOD, "NO_PROXY": "", "no_proxy": "*"}) == "good.example:3128"


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("ftp://user:hunter2@proxy:1", "HTTPS_PROXY names an unknown kind of proxy"),
        ("socks://user:hunter2@proxy:1", "HTTPS_PROXY names an unknown kind of proxy: .* socks5h://"),
        ("http://user:hunter2@proxy:many", "HTTPS_PROXY has no usable port, which is a number from 1 to 65535"),
        ("http://user:hunter2@proxy:99999", "HTTPS_PROXY has no usable port"),
        ("http://user:hunter2@proxy:0", "HTTPS_PROXY has no usable port"),
        ("http://user:hunter2#@proxy:80", "HTTPS_PROXY has no usable port.* %23"),
        ("http://user:hunter2@:80", "HTTPS_PROXY is not the URL of a proxy"),
        ("http://user:hunter2@pro xy:80", "HTTPS_PROXY is not the URL of a proxy"),
        ("http://user:hunter2@proxy:80\x1b[0m", "HTTPS_PROXY"),
    ],
)
def test_a_wrong_value_is_named_and_never_shown(value: Any, fault: str) -> None:
    network = Network.read({"HTTPS_PROXY": value})
    with pytest.raises(NetworkSettingError, match=fault) as error:
        network.proxy_for(URL)
    assert "hunter2" not in str(error.value) and "user:h" not in str(error.value)
    assert network.proxy_for("http://auth.example/") is None


def test_no_repr_shows_a_value() -> None:
    network = Network.read({"HTTPS_PROXY": "http://user:hunter2@proxy:1", "NO_PROXY": "secret.example"})
    proxy = network.proxy_for(URL)
    assert proxy is not None and proxy.has_password
    for text in (repr(network), str(network), repr(proxy), str(proxy)):
        assert "hunter2" not in text and "secret.example" not in text
    assert str(proxy) == "the proxy proxy:1 (HTTPS_PROXY)"


def test_a_socks_proxy_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network.read({"ALL_PROXY": "socks5h://user:hunter2@127.0.0.1:1080", "HTTPS_PROXY": GOOD})
    monkeypatch.setitem(sys.modules, "socksio", None)
    assert network.proxy_for(URL) is not None  # the other one is not touched
    with pytest.raises(NetworkSettingError, match=r"ALL_PROXY names a SOCKS proxy.* authstate\[socks\]") as error:
        network.proxy_for("http://auth.example/")
    assert "hunter2" not in str(error.value)
    monkeypatch.undo()
    proxy = network.proxy_for("http://auth.example/")
    assert proxy is not None and proxy.address == "127.0.0.1:1080"


def test_the_proxy_that_the_system_is_set_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urllib.request, "getproxies", lambda: {"https": GOOD})
    monkeypatch.setattr(urllib.request, "proxy_bypass", lambda host: host == "inside.example", raising=False)
    assert address({}) is None
    for platform in ("darwin", "win32"):
        monkeypatch.setattr(sys, "platform", platform)
        assert address({}) == "good.example:3128"
        assert address({}, "https://inside.example/") is None
        assert address({}, "http://auth.example/") is None
        assert address({"HTTPS_PROXY": ""}) is None
        assert address({"NO_PROXY": "*"}) is None
