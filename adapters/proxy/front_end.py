"""The account side of a front-end whose other requests go to a child: our engine answers, as the child would.

It answers when the child has answered `initialize`, and not before: until then the child's own rules hold. A request
that changes who is signed in is answered when the child acts with the new login.
"""

import asyncio
from collections.abc import Awaitable
from typing import Protocol

import msgspec
from msgspec import Raw

from authstate.adapters.app_server.handshake import Api, LazyApi
from authstate.adapters.app_server.wire import (
    SESSIONS_METHOD,
    AccountUpdatedForReason,
    AccountUpdatedParams,
    InitializeParams,
)
from authstate.adapters.jsonrpc.peer import INVALID_REQUEST, Exclusive, Peer, RpcError

METHODS = frozenset(
    {
        SESSIONS_METHOD,
        *("account/read", "account/login/start", "account/login/cancel", "account/logout"),
        *("account/rateLimits/read", "getAuthStatus"),
    }
)
"""What the engine answers in place of the child."""
CHANGES = frozenset({"account/login/start", "account/logout"})
"""Those after which the child acts as somebody else."""
RETIRED = {
    "loginApiKey": "account/login/start",
    "loginChatGpt": "account/login/start",
    "cancelLoginChatGpt": "account/login/cancel",
    "logoutChatGpt": "account/logout",
}
"""What codex 0.93.0 still knows, and what took its place: it would change the child's login behind our back."""
_OWNER = "start codex without authstate for that"
REFUSED = {
    "account/bedrock/discover": f"Amazon Bedrock is not set up through authstate: {_OWNER}",
    "account/bedrock/setup": f"Amazon Bedrock is not set up through authstate: {_OWNER}",
    "account/gcp/setup": f"Google Cloud is not set up through authstate: {_OWNER}",
    "accountSession/switch": "authstate keeps one login: use `account/logout` and `account/login/start` to change it",
}
"""What would give the child a login of its own, and why it is refused: it would act as somebody else than is shown."""


class Account(Protocol):
    """What is opened behind the front-end."""

    async def open(self) -> Api:
        """Start the engine, and return what answers. Raises ConfigError, AuthError."""
        ...

    async def caught_up(self) -> None:
        """Return when the child acts with what the engine holds."""

    async def list_sessions(self, params: Raw | None) -> object:
        """Answer `accountSession/list`. Raises RpcError."""
        ...


class FrontEnd:
    """Answers the account requests of one front-end, and tells it of the engine's events.

    Args:
        id_prefix: of the requests that we send to it; nobody else can guess it.
        account: what is opened once, and again at the next request if that failed.
    """

    def __init__(self, id_prefix: str, account: Account) -> None:
        self.peer = Peer(self._handle, id_prefix=id_prefix)
        self.opening = LazyApi(account.open)
        """What answers, once it is open."""
        self._account = account
        self.is_introduced = False
        """The child took the front-end in."""
        self._ready: asyncio.Future[None] | None = None
        self._unwanted: frozenset[str] = frozenset()
        self.tells_reasons = False
        """Whether the front-end's release knows the `reason` of `account/updated`."""
        self.client_name: str | None = None
        """Who the front-end is; None before its `initialize`."""

    # The handshake, which is between the front-end and the child

    def introduced(self, params: Raw) -> None:
        """The front-end sent `initialize`; the child has not answered yet."""
        self._ready = asyncio.get_running_loop().create_future()
        try:
            request = msgspec.json.decode(params, type=InitializeParams)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return  # the child will refuse it
        self.client_name = request.client_info.name
        if request.capabilities is not None:
            self._unwanted = frozenset(request.capabilities.opt_out_notification_methods or ())

    def accepted(self) -> None:
        """The child took the front-end in: from here on there are answers."""
        self.is_introduced = True
        self._settle()

    def refused(self) -> None:
        """The child refused the handshake: it may be tried again."""
        self._settle()
        self._ready = None

    def _settle(self) -> None:
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(None)

    # What is told

    def notify(self, method: str, params: object) -> None:
        """Tell the front-end, unless it opted out of this or has not introduced itself."""
        if self.tells_reasons and isinstance(params, AccountUpdatedParams):
            params = AccountUpdatedForReason(params.auth_mode, params.plan_type, getattr(params, "reason", None))
        if self.is_introduced and method not in self._unwanted:
            self.peer.notify(method, params)

    # What is answered

    def _handle(self, method: str, params: Raw | None) -> object:
        if self._ready is None:
            raise RpcError(INVALID_REQUEST, "Not initialized")
        if method in RETIRED:
            raise RpcError(INVALID_REQUEST, f"Invalid request: {method} is retired: use `{RETIRED[method]}`")
        if method in REFUSED:
            raise RpcError(INVALID_REQUEST, REFUSED[method])
        if method not in METHODS:
            raise RpcError(INVALID_REQUEST, "Invalid request: unknown method")
        if self.opening.api is None or not self.is_introduced:
            return Exclusive(self._handle_first(self._ready, method, params))
        return self._answer(self.opening.api, method, params)

    async def _handle_first(self, ready: asyncio.Future[None], method: str, params: Raw | None) -> object:
        """What the engine makes of a request, which may be an awaitable, once the child took the front-end in."""
        await asyncio.wait((ready,))
        if not self.is_introduced:
            raise RpcError(INVALID_REQUEST, "Not initialized")
        return self._answer(await self.opening.opened(), method, params)

    def _answer(self, api: Api, method: str, params: Raw | None) -> object:
        if method == SESSIONS_METHOD:
            return self._account.list_sessions(params)
        answer = api.handle(method, params)
        if isinstance(answer, Exclusive):
            return Exclusive(self._changed(answer.awaitable))
        return answer

    async def _changed(self, change: Awaitable[object]) -> object:
        """The answer to a change, when the child acts with the new login."""
        try:
            return await change
        finally:
            await self._account.caught_up()
