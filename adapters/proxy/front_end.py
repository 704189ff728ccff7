"""The account side of a front-end whose other requests go to a child: the engine answers, as the child would.

It answers once the child has answered `initialize`; until then the child's own rules hold. A request that changes who
is signed in is answered when the child acts with the new login.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw

from authstate.adapters.app_server.connected_client import ConnectedClient
from authstate.adapters.app_server.wire import SESSIONS_METHOD, InitializeParams
from authstate.adapters.jsonrpc.peer import INVALID_REQUEST, Exclusive, Peer, RpcError

if TYPE_CHECKING:
    from authstate.adapters.app_server.account_api import AccountApi
    from authstate.adapters.proxy.wrapped_account import WrappedAccount

METHODS = frozenset(
    {
        SESSIONS_METHOD,
        *("account/read", "account/login/start", "account/login/cancel", "account/logout"),
        *("account/rateLimits/read", "getAuthStatus"),
    }
)
"""What the engine answers in place of the child."""
CHANGES = frozenset({"account/login/start", "account/logout"})
"""The methods after which the child acts with another login."""
RETIRED = {
    "loginApiKey": "account/login/start",
    "loginChatGpt": "account/login/start",
    "cancelLoginChatGpt": "account/login/cancel",
    "logoutChatGpt": "account/logout",
}
"""What codex 0.93.0 still has, and what replaced it. Refused: it would change the child's login without the engine."""
_OWNER = "start codex without authstate for that"
REFUSED = {
    "account/bedrock/discover": f"Amazon Bedrock is not set up through authstate: {_OWNER}",
    "account/bedrock/setup": f"Amazon Bedrock is not set up through authstate: {_OWNER}",
    "account/gcp/setup": f"Google Cloud is not set up through authstate: {_OWNER}",
    "accountSession/switch": "authstate keeps one login: use `account/logout` and `account/login/start` to change it",
}
"""What would give the child a login of its own, and why it is refused: the child would act as another account."""


class FrontEnd:
    """Answers the account requests of one front-end.

    Args:
        id_prefix: of the requests that authstate sends to it; nobody else can guess it.
        make_account: makes the account of the front-end.
    """

    def __init__(self, id_prefix: str, make_account: "Callable[[ConnectedClient], WrappedAccount]") -> None:
        self.peer: Peer = Peer(self._handle, id_prefix=id_prefix)
        self.client: ConnectedClient = ConnectedClient(self.peer)
        self.account: WrappedAccount = make_account(self.client)
        self._initialize_answered: asyncio.Future[None] | None = None  # None before `initialize`

    # The handshake, which is between the front-end and the child

    def on_initialize(self, params: Raw) -> None:
        """The front-end sent `initialize`; the child has not answered yet."""
        self._initialize_answered = asyncio.get_running_loop().create_future()
        try:
            request = msgspec.json.decode(params, type=InitializeParams)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return  # the child will refuse it
        self.client.describe(request)

    def on_initialize_answered(self, is_accepted: bool) -> None:
        """The child answered `initialize`. One that it refused may be tried again."""
        self.client.is_initialized = is_accepted
        if self._initialize_answered is not None and not self._initialize_answered.done():
            self._initialize_answered.set_result(None)
        if not is_accepted:
            self._initialize_answered = None

    # What is answered

    def _handle(self, method: str, params: Raw | None) -> object:
        if self._initialize_answered is None:
            raise RpcError(INVALID_REQUEST, "Not initialized")
        if method in RETIRED:
            raise RpcError(INVALID_REQUEST, f"Invalid request: {method} is retired: use `{RETIRED[method]}`")
        if method in REFUSED:
            raise RpcError(INVALID_REQUEST, REFUSED[method])
        if method not in METHODS:
            raise RpcError(INVALID_REQUEST, "Invalid request: unknown method")
        api = self.account.login.api
        if api is None or not self.client.is_initialized:
            return Exclusive(self._handle_first(self._initialize_answered, method, params))
        return self._answer(api, method, params)

    async def _handle_first(self, answered: asyncio.Future[None], method: str, params: Raw | None) -> object:
        """What the engine makes of a request, which may be an awaitable, once the child answered `initialize`."""
        await asyncio.wait((answered,))
        if not self.client.is_initialized:
            raise RpcError(INVALID_REQUEST, "Not initialized")
        return self._answer(await self.account.login.opened(), method, params)

    def _answer(self, api: "AccountApi", method: str, params: Raw | None) -> object:
        if method == SESSIONS_METHOD:
            return self.account.list_sessions(params)
        answer = api.handle(method, params)
        if isinstance(answer, Exclusive):
            return Exclusive(self._settled(answer.awaitable))
        return answer

    async def _settled(self, change: Awaitable[object]) -> object:
        """The answer to a change, once the child acts with the new login."""
        try:
            return await change
        finally:
            await self.account.settled()
