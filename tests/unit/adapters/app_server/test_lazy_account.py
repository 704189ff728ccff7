"""What the account behind an app-server takes from its environment."""

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from authstate.adapters.app_server.connected_client import ConnectedClient
from authstate.adapters.app_server.deferred_log import DeferredLog
from authstate.adapters.app_server.lazy_account import AccountSetup, LazyAccount
from authstate.adapters.config import Config, Environment
from authstate.adapters.jsonrpc.peer import Peer
from authstate.engine.model.events import AuthMode


@asynccontextmanager
async def opened(home: Path, client: str | None = None, **environ: str) -> AsyncIterator[LazyAccount]:
    environment = Environment.read({"CODEX_HOME": str(home), "AUTHSTATE_REDIRECT_PORTS": "0", **environ})
    connected = ConnectedClient(Peer(lambda method, params: None))
    connected.name = client
    account = LazyAccount(AccountSetup(Config(), environment), connected, DeferredLog())
    try:
        yield account
    finally:
        await account.close()


async def test_an_app_server_ignores_the_key_of_the_environment_as_codex_does(tmp_path: Path) -> None:
    (tmp_path / "auth.json").write_text('{"OPENAI_API_KEY": "sk-stored"}')
    async with opened(tmp_path, CODEX_API_KEY="sk-environment") as account:
        api = await account.opened()
        assert account.engine is not None and account.engine.auth_mode is AuthMode.API_KEY
        status = api.handle("getAuthStatus", msgspec.Raw(b'{"includeToken": true}'))
        assert msgspec.to_builtins(status)["authToken"] == "sk-stored"
        await account.engine.log_out()
    assert not (tmp_path / "auth.json").exists()


@pytest.mark.parametrize(
    ("client", "environ", "originator"),
    [
        ("my_client", {}, "my_client"),
        ("my_client", {"CODEX_INTERNAL_ORIGINATOR_OVERRIDE": "overridden"}, "overridden"),
        (None, {}, "authstate"),
    ],
)
async def test_a_login_names_the_client_to_the_issuer(
    client: str | None, environ: dict[str, str], originator: str, tmp_path: Path
) -> None:
    async with opened(tmp_path, client, **environ) as account:
        api = await account.opened()
        begun = await cast("Awaitable[object]", api.handle("account/login/start", msgspec.Raw(b'{"type": "chatgpt"}')))
        query = parse_qs(urlsplit(msgspec.to_builtins(begun)["authUrl"]).query)
        assert query["originator"] == [originator]
