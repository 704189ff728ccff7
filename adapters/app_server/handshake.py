"""The first messages of a connection: `initialize`, answered before the engine is imported; then the account API."""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

from msgspec import Raw

from authstate.adapters.app_server.connected_client import ConnectedClient
from authstate.adapters.app_server.lazy_account import LazyAccount
from authstate.adapters.app_server.wire import InitializeParams, InitializeResult, ParamsDecoder
from authstate.adapters.jsonrpc.peer import INVALID_REQUEST, Exclusive, Peer, RpcError
from authstate.engine.version import VERSION

_decode = ParamsDecoder[InitializeParams](InitializeParams)


class Handshake:
    """Answers `initialize`, opens the account behind it, and passes everything else on.

    Args:
        home: the CODEX_HOME that clients are told.
        make_account: makes the account of the client. It is opened after `initialize` was answered.
    """

    def __init__(self, home: Path, make_account: Callable[[ConnectedClient], LazyAccount]) -> None:
        self.peer = Peer(self.handle)
        self.client = ConnectedClient(self.peer)
        self.account = make_account(self.client)
        self._home = home

    def handle(self, method: str, params: Raw | None) -> object:
        """See `jsonrpc.Handler`. Requests that come while the account opens wait for that, in order."""
        api = self.account.api
        if api is not None and method != "initialize":
            return api.handle(method, params)
        if method == "initialize":
            return self._initialize(params)
        if not self.client.is_initialized:
            raise RpcError(INVALID_REQUEST, "Not initialized")
        return Exclusive(self._handle_first(method, params))

    def _initialize(self, params: Raw | None) -> InitializeResult:
        request = _decode(params)
        if self.client.is_initialized:
            raise RpcError(INVALID_REQUEST, "Already initialized")
        self.client.describe(request)
        self.client.is_initialized = True
        asyncio.get_running_loop().call_soon(self.account.start)
        info = request.client_info
        system, architecture = platform()
        return InitializeResult(
            user_agent=f"{info.name}/{VERSION} ({system}; {architecture}) authstate ({info.name}; {info.version})",
            codex_home=os.fsencode(self._home).decode("utf-8", "replace"),  # JSON holds no other text
            platform_family="windows" if sys.platform == "win32" else "unix",
            platform_os={"darwin": "macos", "win32": "windows"}.get(sys.platform, sys.platform),
        )

    async def _handle_first(self, method: str, params: Raw | None) -> object:
        """What the account API makes of a request, which may be an awaitable, once the account is open."""
        return (await self.account.opened()).handle(method, params)


def platform() -> tuple[str, str]:
    """The operating system with its version, and the architecture, as the user agent shows them."""
    if sys.platform == "win32":
        version = sys.getwindowsversion()
        return f"Windows {version.major}.{version.minor}.{version.build}", os.environ.get("PROCESSOR_ARCHITECTURE", "?")
    names = os.uname()
    return f"{'Mac OS' if names.sysname == 'Darwin' else names.sysname} {names.release}", names.machine
