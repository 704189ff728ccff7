"""The first words of a connection: `initialize`, answered before the engine is imported, and then the account API."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from msgspec import Raw

from authstate.adapters.app_server.wire import InitializeParams, InitializeResult, ParamsDecoder
from authstate.adapters.jsonrpc.peer import INTERNAL_ERROR, INVALID_REQUEST, Exclusive, Peer, RpcError
from authstate.engine.version import VERSION

_decode = ParamsDecoder[InitializeParams](InitializeParams)


class Api(Protocol):
    """What answers after the handshake."""

    def handle(self, method: str, params: Raw | None) -> object:
        """See `jsonrpc.Handler`."""
        ...


class LazyApi:
    """Opens what answers, once; again when that failed.

    Args:
        open_api: imports and starts what the account API needs.
    """

    def __init__(self, open_api: Callable[[], Awaitable[Api]]) -> None:
        self._open_api = open_api
        self._opening: asyncio.Future[Api] | None = None
        self.api: Api | None = None
        """What answers; None until it is open."""

    def start(self) -> asyncio.Future[Api]:
        """Begin, unless it is under way or done."""
        if self._opening is None or (self._opening.done() and self.api is None):
            self._opening = asyncio.ensure_future(self._open())
            self._opening.add_done_callback(_take_fault)
        return self._opening

    async def opened(self) -> Api:
        """What answers, once it is open. Cancellation ends the wait only.

        Raises:
            RpcError: it cannot be opened; the message says why.
        """
        try:
            return await asyncio.shield(self.start())
        except Exception as error:
            raise RpcError(INTERNAL_ERROR, explain(error)) from None

    async def closed(self) -> None:
        """Wait for an opening that is under way, so that what it opened can be closed. Never raises what it raised."""
        if self._opening is not None:
            await asyncio.wait([self._opening])

    async def _open(self) -> Api:
        # In here and not in a callback: who comes between the end and its callback would open a second one.
        self.api = await self._open_api()
        return self.api


def _take_fault(opening: asyncio.Future[Api]) -> None:
    """Whoever waits is told of the fault; where nobody does, it is no news to the event loop."""
    if not opening.cancelled():
        opening.exception()


class Handshake:
    """Answers `initialize`, opens the account API behind it, and passes everything else on.

    Args:
        home: the CODEX_HOME that clients are told.
        open_api: imports and starts what the account API needs. Called once, after `initialize` was answered; again at
            the next request if it failed.
    """

    def __init__(self, home: Path, open_api: Callable[[], Awaitable[Api]]) -> None:
        self.peer = Peer(self.handle)
        self._home = home
        self._opening = LazyApi(open_api)
        self._initialized = False
        self._unwanted: frozenset[str] = frozenset()
        self.client_name: str | None = None
        """Who the client is; None before `initialize`."""

    def handle(self, method: str, params: Raw | None) -> object:
        """See `jsonrpc.Handler`. Requests that come while the account API opens wait for that, in order."""
        if self._opening.api is not None and method != "initialize":
            return self._opening.api.handle(method, params)
        if method == "initialize":
            return self._initialize(params)
        if not self._initialized:
            raise RpcError(INVALID_REQUEST, "Not initialized")
        return Exclusive(self._handle_first(method, params))

    def notify(self, method: str, params: object) -> None:
        """Tell the client, unless it opted out of this notification or has not introduced itself."""
        if self._initialized and method not in self._unwanted:
            self.peer.notify(method, params)

    async def close(self) -> None:
        """Wait for an opening that is under way, so that what it opened can be closed. Never raises what it raised."""
        await self._opening.closed()

    def _initialize(self, params: Raw | None) -> InitializeResult:
        request = _decode(params)
        if self._initialized:
            raise RpcError(INVALID_REQUEST, "Already initialized")
        self._initialized = True
        if request.capabilities is not None:
            self._unwanted = frozenset(request.capabilities.opt_out_notification_methods or ())
        asyncio.get_running_loop().call_soon(self._opening.start)
        client = request.client_info
        self.client_name = client.name
        system, architecture = platform()
        return InitializeResult(
            user_agent=f"{client.name}/{VERSION} ({system}; {architecture}) "
            f"authstate ({client.name}; {client.version})",
            codex_home=os.fsencode(self._home).decode("utf-8", "replace"),  # JSON holds no other text
            platform_family="windows" if sys.platform == "win32" else "unix",
            platform_os={"darwin": "macos", "win32": "windows"}.get(sys.platform, sys.platform),
        )

    async def _handle_first(self, method: str, params: Raw | None) -> object:
        """What the account API makes of a request, which may be an awaitable, once there is one."""
        return (await self._opening.opened()).handle(method, params)


def explain(error: Exception) -> str:
    """What the client may read of an error: the messages written for people, and of any other the class only."""
    from authstate.adapters.config import ConfigError
    from authstate.engine.model.errors import AuthError

    if isinstance(error, AuthError | ConfigError):
        return str(error)
    return f"the account cannot be opened ({type(error).__name__})"


def platform() -> tuple[str, str]:
    """The operating system with its version, and the architecture, as the user agent shows them."""
    if sys.platform == "win32":
        version = sys.getwindowsversion()
        return f"Windows {version.major}.{version.minor}.{version.build}", os.environ.get("PROCESSOR_ARCHITECTURE", "?")
    names = os.uname()
    return f"{'Mac OS' if names.sysname == 'Darwin' else names.sysname} {names.release}", names.machine
