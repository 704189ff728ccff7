"""The first messages of a connection: `initialize`, answered before the engine is imported; then the account API."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from msgspec import Raw

from authstate.adapters.app_server.connected_client import ConnectedClient
from authstate.adapters.app_server.introduction import describe_server
from authstate.adapters.app_server.lazy_account import LazyAccount
from authstate.adapters.app_server.wire import InitializeParams, ParamsDecoder
from authstate.adapters.jsonrpc.framing import read_line
from authstate.adapters.jsonrpc.peer import INVALID_REQUEST, Exclusive, Peer, RpcError

_read_introduction: ParamsDecoder[InitializeParams] = ParamsDecoder[InitializeParams](InitializeParams)


class Handshake:
    """Answers `initialize`, opens the account behind it, and passes everything else on.

    Args:
        home: the CODEX_HOME that clients are told.
        make_account: makes the account of the client. It is opened after `initialize` was answered.
    """

    def __init__(self, home: Path, make_account: Callable[[ConnectedClient], LazyAccount]) -> None:
        self.peer: Peer = Peer(self.handle)
        self.client: ConnectedClient = ConnectedClient(self.peer)
        self.account: LazyAccount = make_account(self.client)
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

    def answered(self, line: bytes) -> None:
        """Note an `initialize` that `answer_first` answered: the line of the client."""
        self._introduced(_read_introduction(read_line(line).params))

    def _introduced(self, params: InitializeParams) -> None:
        """Note what the client says of itself, and open the account a moment later."""
        self.client.describe(params)
        self.client.is_initialized = True
        asyncio.get_running_loop().call_soon(self.account.start)

    def _initialize(self, params: Raw | None) -> dict[str, str]:
        introduction = _read_introduction(params)
        if self.client.is_initialized:
            raise RpcError(INVALID_REQUEST, "Already initialized")
        self._introduced(introduction)
        return describe_server(introduction.client_info.name, introduction.client_info.version, self._home)

    async def _handle_first(self, method: str, params: Raw | None) -> object:
        """What the account API makes of a request, which may be an awaitable, once the account is open."""
        return (await self.account.opened()).handle(method, params)
