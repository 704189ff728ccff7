"""What `$CODEX_HOME/.env` says of the network, and that it reaches every client of ours."""

import os
from pathlib import Path
from typing import Any

import pytest
from support.network_servers import FixedAnswer, serving

from authstate.adapters.app_server.connected_client import ConnectedClient
from authstate.adapters.app_server.deferred_log import DeferredLog
from authstate.adapters.app_server.lazy_account import AccountSetup, LazyAccount
from authstate.adapters.assembly import open_engine
from authstate.adapters.config import Config, Environment
from authstate.adapters.config.dotenv_file import read_dotenv
from authstate.adapters.jsonrpc.peer import Peer, RpcError
from authstate.adapters.network.http_proxies import NetworkSettingError
from authstate.adapters.oauth.code_exchange import exchange_code
from authstate.adapters.oauth.device_endpoint import HttpDeviceEndpoint
from authstate.adapters.oauth.issuer import Issuer
from authstate.engine.model.errors import IssuerUnavailable
from authstate.engine.model.secret import Secret
from authstate.testing import MemoryStore, make_tokens

REFUSAL = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
URL = "https://issuer.example"


def environment(home: Path, text: str, **environ: str) -> Any:
    (home / ".env").write_bytes(text.encode() if isinstance(text, str) else text)
    return Environment.read({"CODEX_HOME": str(home), "CODEX_APP_SERVER_LOGIN_ISSUER": URL, **environ})


def address(home: Path, text: str, url: str = URL, **environ: str) -> Any:
    proxy = environment(home, text, **environ).network.proxy_for(url)
    return None if proxy is None else proxy.address


@pytest.mark.parametrize(
    "text",
    [
        "HTTPS_PROXY=http://of-file:1\n",
        "\ufeffexport https_proxy = 'http://of-file:1'  # mine\r\n",
        'PORT=1\nALL_PROXY="http://of-file:${PORT}"',
        "this is no line\nHTTPS_PROXY=http://of-file:1\nnor = this 'one\n",
        b"NAME=\xff\xfe\nHTTPS_PROXY=http://of-file:1\n",
        "HTTPS_PROXY=http://first:1\nHTTPS_PROXY=http://of-file:1\nNO_PROXY\n",
    ],
)
def test_a_proxy_of_the_file_counts(
    tmp_path: Path, text: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    before = dict(os.environ)
    assert address(tmp_path, text) == "of-file:1"
    assert dict(os.environ) == before
    assert capfd.readouterr() == ("", "") and not caplog.records


def test_the_file_wins_over_the_environment(tmp_path: Path) -> None:
    assert address(tmp_path, "HTTPS_PROXY=http://of-file:1", HTTPS_PROXY="http://other:1") == "of-file:1"
    assert address(tmp_path, "HTTPS_PROXY=", HTTPS_PROXY="http://other:1") is None
    assert address(tmp_path, "NO_PROXY=issuer.example", HTTPS_PROXY="http://other:1") is None
    assert address(tmp_path, "https_proxy=http://of-file:1", HTTPS_PROXY="http://other:1") == "other:1"
    assert address(tmp_path, "OTHER=1", HTTPS_PROXY="http://other:1") == "other:1"
    assert address(tmp_path, "REQUEST_METHOD=GET\nHTTP_PROXY=http://of-file:1", "http://issuer.example") is None


def test_names_of_codex_do_not_count(tmp_path: Path) -> None:
    text = "CODEX_CA_CERTIFICATE=missing.pem\ncodex_ca_certificate=x\nCODEX_HOME=/other\nCODEX_API_KEY=sk-other\n"
    read = environment(tmp_path, text)
    assert read_dotenv(str(tmp_path / ".env")) == {}
    assert read.network.certificates() is None and read.home == tmp_path and read.api_key is None
    _, setting = environment(tmp_path, "SSL_CERT_FILE=mine.pem").network.certificates()
    assert setting.value.reveal() == "mine.pem"


def test_a_file_that_cannot_be_read_is_skipped(tmp_path: Path) -> None:
    assert read_dotenv(str(tmp_path / "missing")) == {}
    assert read_dotenv(str(tmp_path)) == {}
    (tmp_path / "huge").write_bytes(b"HTTPS_PROXY=http://of-file:1\n" + b"#" * 1024 * 1024)
    assert read_dotenv(str(tmp_path / "huge")) == {}


def test_a_fault_names_the_file_and_shows_no_value(tmp_path: Path) -> None:
    read = environment(tmp_path, "HTTPS_PROXY=ftp://user:hunter2@proxy:1")
    with pytest.raises(NetworkSettingError) as error:
        read.network.proxy_for(URL)
    assert str(error.value).startswith(f"HTTPS_PROXY in {tmp_path / '.env'} names an unknown kind of proxy")
    assert "hunter2" not in str(error.value) + repr(read) + repr(Issuer.of(read))


async def test_every_client_of_ours_goes_through_the_proxy_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    async with serving(proxy := FixedAnswer(REFUSAL)) as port:
        read = environment(tmp_path, f"HTTPS_PROXY=http://127.0.0.1:{port}\n")
        issuer = Issuer.of(read)
        device = HttpDeviceEndpoint(issuer)
        async with open_engine(Config(), read, store=MemoryStore(make_tokens(expires_in=-60))) as engine:
            for asking in (
                engine.authorization(),
                device.request(),
                exchange_code(issuer, code=Secret("c"), redirect_uri="http://localhost", code_verifier=Secret("v")),
            ):
                with pytest.raises(IssuerUnavailable, match=r"\.env\) does not connect to issuer.example"):
                    await asking
        await device.aclose()
    assert [head.split()[1] for head in proxy.heads] == [b"issuer.example:443"] * 3


async def test_an_app_server_asks_for_the_rate_limits_through_the_proxy_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "auth.json").write_text('{"OPENAI_API_KEY": "sk-stored"}')
    async with serving(proxy := FixedAnswer(REFUSAL)) as port:
        read = environment(tmp_path, f"ALL_PROXY=http://127.0.0.1:{port}\n")
        client = ConnectedClient(Peer(lambda method, params: None))
        account = LazyAccount(AccountSetup(Config(), read), client, DeferredLog())
        await account.opened()
        with pytest.raises(RpcError, match=r"\.env\) does not connect to chatgpt\.com \(status 403\)"):
            await account.read_rate_limits()
        await account.close()
    assert [head.split()[1] for head in proxy.heads] == [b"chatgpt.com:443"]
