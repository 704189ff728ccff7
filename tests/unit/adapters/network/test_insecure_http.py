"""A token leaves this machine over TLS only, unless the person allows a host by name."""

import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from authstate.adapters.app_server.rate_limits import RateLimitsUnavailable, read_rate_limits
from authstate.adapters.assembly import open_engine
from authstate.adapters.cli.main import main
from authstate.adapters.config import Config, ConfigError, Environment, load_config
from authstate.adapters.httpx_auth import EngineAuth
from authstate.adapters.network import insecure_http
from authstate.adapters.network.insecure_http import ALLOWED_HOSTS_VARIABLE, InsecureTransport, ensure_secure
from authstate.adapters.oauth.browser_login import start_browser_login
from authstate.adapters.oauth.device_login import start_device_login
from authstate.adapters.oauth.issuer import Issuer
from authstate.adapters.oauth.issuer_http import host_of
from authstate.adapters.oauth.token_endpoint import HttpTokenAuthority
from authstate.engine.engine import AuthEngine
from authstate.engine.model.errors import Delivery, IssuerUnavailable
from authstate.testing import FakeAuthority, MemoryStore, make_tokens

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
    monkeypatch.setattr(insecure_http, "_warned", set())


@pytest.mark.parametrize("url", [*THIS_MACHINE, "https://issuer.example", "http://[", "no URL"])
def test_this_machine_and_tls_are_allowed(url: str) -> None:
    ensure_secure(url, "VARIABLE")


@pytest.mark.parametrize("url", OTHERS)
def test_http_to_another_machine_is_refused(url: str) -> None:
    with pytest.raises(InsecureTransport, match="VARIABLE .*http://.*" + ALLOWED_HOSTS_VARIABLE):
        ensure_secure(url, "VARIABLE")
    with pytest.raises(IssuerUnavailable, match="VARIABLE .*http://.*" + ALLOWED_HOSTS_VARIABLE) as refused:
        host_of(url, "VARIABLE")
    assert refused.value.delivery is Delivery.REFUSED


def test_a_host_is_allowed_by_its_whole_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ALLOWED_HOSTS_VARIABLE, " Host.Docker.Internal , 10.0.0.1,")
    ensure_secure("http://host.docker.internal:8080/x", "VARIABLE")
    ensure_secure("http://10.0.0.1", "VARIABLE")
    for url in ("http://evil.host.docker.internal", "http://10.0.0.2"):
        with pytest.raises(InsecureTransport):
            ensure_secure(url, "VARIABLE")


def test_a_host_that_is_allowed_is_warned_of_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(ALLOWED_HOSTS_VARIABLE, "one.example,other.example")
    for url in ("http://one.example/a", "http://ONE.example:81/b?code=secret", "http://other.example"):
        ensure_secure(url, "VARIABLE")
    hosts = [record.args[0] for record in caplog.records if isinstance(record.args, tuple)]
    assert hosts == ["one.example", "other.example"]
    assert ALLOWED_HOSTS_VARIABLE in caplog.text
    assert "secret" not in caplog.text


VARIABLES = (*("CODEX_REFRESH_TOKEN_URL_OVERRIDE", "CODEX_REVOKE_TOKEN_URL_OVERRIDE", "CODEX_APP_SERVER_LOGIN_ISSUER"),)


@pytest.mark.parametrize("name", VARIABLES)
def test_a_variable_is_refused_when_it_is_read(tmp_path: Path, name: str) -> None:
    environ = {"CODEX_HOME": str(tmp_path), name: "http://issuer.example/x"}
    with pytest.raises(ConfigError, match=f"{name} would send.*{ALLOWED_HOSTS_VARIABLE}"):
        Environment.read(environ)
    Environment.read({**environ, ALLOWED_HOSTS_VARIABLE: "issuer.example"})
    Environment.read({**environ, name: "http://127.0.0.1:1/x"})


def test_the_backend_is_refused_when_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('chatgpt_base_url = "http://backend.example/backend-api"\n')
    with pytest.raises(ConfigError, match=r"config\.toml: chatgpt_base_url would send"):
        load_config(tmp_path, system=None, environ={})
    allowed = load_config(tmp_path, system=None, environ={ALLOWED_HOSTS_VARIABLE: "backend.example"})
    assert allowed.chatgpt_base_url == "http://backend.example/backend-api"
    with pytest.raises(ConfigError, match="override"):
        load_config(tmp_path, ['chatgpt_base_url="HTTP://other.example"'], system=None, environ={})


PROVIDER = """model_provider = "mine"
[model_providers.mine]
base_url = "http://model.example"
requires_openai_auth = {}
"""


@pytest.mark.parametrize(
    ("text", "environ", "url"),
    [
        ("", {}, None),
        ("", {"OPENAI_BASE_URL": "http://model.example"}, "http://model.example"),
        (PROVIDER.format("true"), {}, "http://model.example"),
        (PROVIDER.format("false"), {}, None),
        ('openai_base_url = "http://model.example"', {}, "http://model.example"),
        ('model_provider = "openai"', {"OPENAI_BASE_URL": "http://model.example"}, "http://model.example"),
        ('model_provider = "ollama"', {"OPENAI_BASE_URL": "http://model.example"}, None),
        ('model_provider = "missing"', {}, None),
    ],
)
def test_where_codex_sends_the_token_with_each_turn(
    tmp_path: Path, text: str, environ: dict[str, str], url: str | None
) -> None:
    if text:
        (tmp_path / "config.toml").write_text(text)
    assert load_config(tmp_path, system=None, environ=environ).model_url == url


COMMANDS = (
    *(("status",), ("status", "--json"), ("login", "--device"), ("logout",), ("token",), ("app-server",)),
    ("wrap", "--", sys.executable, "-c", "import sys; sys.exit(len(sys.stdin.read()))", "app-server"),
)
SETTINGS = {
    **{name: ({name: "http://issuer.example/x"}, "") for name in VARIABLES},
    "the backend": ({}, 'chatgpt_base_url = "http://backend.example"\n'),
}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
@pytest.mark.parametrize("setting", SETTINGS)
def test_every_command_refuses_at_its_start(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    command: tuple[str, ...],
    setting: str,
) -> None:
    """Before it looks at what is stored, which is read by no one here: there is a folder in its place."""
    variables, config = SETTINGS[setting]
    (tmp_path / "auth.json").mkdir()
    (tmp_path / "config.toml").write_text(config)
    monkeypatch.setenv("CODEX_HOME", str(tmp_path))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert main(list(command)) == 3
    said = capfd.readouterr()
    assert said.out == ""
    assert ALLOWED_HOSTS_VARIABLE in said.err
    assert "example" not in said.err


def test_wrap_gives_no_token_to_a_child_that_would_send_it_without_tls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.toml").write_text(PROVIDER.format("true"))
    monkeypatch.setenv("CODEX_HOME", str(tmp_path))
    assert main(list(COMMANDS[-1])) == 3
    assert "the base URL of the model provider would send" in capfd.readouterr().err


def test_an_authority_is_refused_when_it_is_made() -> None:
    wrong: tuple[dict[str, Any], ...] = (
        {"issuer": "http://issuer.example"},
        {"issuer": "https://issuer.example", "refresh_url": "http://other.example"},
        {"issuer": "https://issuer.example", "revoke_url": "http://other.example"},
    )
    for options in wrong:
        with pytest.raises(InsecureTransport):
            HttpTokenAuthority(client_id="client", **options)
    config, environment = Config(), Environment(home=Path("/nowhere"), issuer="http://issuer.example")
    with pytest.raises(InsecureTransport, match="CODEX_APP_SERVER_LOGIN_ISSUER"):
        open_engine(config, environment)


async def test_no_backend_is_asked() -> None:
    tokens = make_tokens()
    engine = AuthEngine(MemoryStore(tokens), FakeAuthority(tokens))
    await engine.start()
    with pytest.raises(RateLimitsUnavailable, match="chatgpt_base_url .*" + ALLOWED_HOSTS_VARIABLE):
        await read_rate_limits(engine, "http://backend.example")
    await engine.close(0)


async def test_no_request_of_a_client_takes_a_token_along_without_tls() -> None:
    tokens = make_tokens()
    sent: list[httpx.Request] = []
    transport = httpx.MockTransport(lambda request: sent.append(request) or httpx.Response(200))
    engine = AuthEngine(MemoryStore(tokens), FakeAuthority(tokens))
    async with engine, httpx.AsyncClient(auth=EngineAuth(engine), transport=transport) as client:
        with pytest.raises(InsecureTransport, match=r"a request to backend\.example would send"):
            await client.get("http://backend.example/x")
        assert sent == []
        with pytest.raises(InsecureTransport, match=r"a request to backend\.example would send"):
            await client.get("ws://backend.example/x")
        assert sent == []
        await client.get("http://127.0.0.1/x")
        assert sent[0].headers["authorization"]
        with pytest.raises(InsecureTransport, match="an origin"):
            EngineAuth(engine, origins=["https://a.example", "http://b.example"])
        elsewhere = EngineAuth(engine, origins=["https://a.example"])
        await client.get("http://b.example", auth=elsewhere)
        assert "authorization" not in sent[-1].headers


async def test_a_login_is_refused_before_a_port_is_opened_or_a_code_is_asked_for() -> None:
    engine = AuthEngine(MemoryStore(), FakeAuthority())
    await engine.start()
    for start in (start_browser_login, start_device_login):
        with pytest.raises(IssuerUnavailable, match=ALLOWED_HOSTS_VARIABLE):
            await start(engine, Issuer("http://issuer.example"))
        assert engine._flows.logins.current is None
    await engine.close(0)
