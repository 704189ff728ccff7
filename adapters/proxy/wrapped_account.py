"""The account between a front-end and its child: the engine, and the tokens for the child."""

import asyncio
import time
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Raw

from authstate.adapters.app_server.connected_client import ConnectedClient
from authstate.adapters.app_server.deferred_log import DeferredLog
from authstate.adapters.app_server.lazy_account import AccountSetup, LazyAccount
from authstate.adapters.app_server.wire import REFRESH_METHOD, SESSIONS_METHOD
from authstate.adapters.jsonrpc.framing import Envelope
from authstate.adapters.jsonrpc.peer import INTERNAL_ERROR, INVALID_REQUEST, Peer, PeerClosed, RemoteError, RpcError
from authstate.adapters.proxy.flow_control import Endpoint, Gate

if TYPE_CHECKING:
    from authstate.adapters.child.failed_turns import Explanation, FailureCause
    from authstate.adapters.child.token_sync import TokenSync
    from authstate.engine.engine import AuthEngine
    from authstate.engine.model.session import Session

_RATE_LIMITS_WITHIN = 30.0  # seconds
_NO_RESULT = Raw(b"{}")


class ChildConnection(NamedTuple):
    """The child, as far as requests go."""

    id_prefix: str
    """Of authstate's requests to the child; nobody else can guess it."""
    endpoint: Endpoint
    gate: Gate
    """Holds the front-end's requests to the child."""


class WrappedAccount:
    """Gives the child the tokens of a login, which is opened late.

    Args:
        setup: what was configured.
        client: the front-end. It gets events, and is asked for tokens that it brought itself.
        log: gets every event.
        child: the connection to the child.
    """

    def __init__(self, setup: AccountSetup, client: ConnectedClient, log: DeferredLog, child: ChildConnection) -> None:
        self.peer: Peer = Peer(self._handle, id_prefix=child.id_prefix)
        """Of the child."""
        self.login: LazyAccount = LazyAccount(
            setup, client, log, on_open=self._on_open, rate_limits=self._read_rate_limits
        )
        """Opens the engine."""
        self._client = client
        self._log = log
        self._child = child
        self._token_sync: TokenSync | None = None  # None before the login is open, and for a child with its own login
        self._check: asyncio.Task[Session] | None = None

    async def start_sync(self, initialize_result: Raw = _NO_RESULT) -> None:
        """Open the login, give the child its tokens, and keep the child up to date from here on.

        Sign-ins and sign-outs in another window count here, too.

        Args:
            initialize_result: of the child. It names the release, and so the form in which the child takes tokens.

        Raises:
            RpcError: the login cannot be opened.
            ChildHasOwnLogin: the child acts with a login that it opened itself. It is never sent the engine's.
        """
        await self.login.opened()
        from authstate.adapters.child.own_login import ChildHasOwnLogin
        from authstate.adapters.child.token_dialects import FIRST_WITH_REASON, dialect_of, release_of

        assert self._token_sync is not None
        token_sync = self._token_sync
        try:
            await token_sync.begin(dialect_of(initialize_result))
        except ChildHasOwnLogin:
            token_sync.close()
            self._token_sync = None
            raise
        release = release_of(initialize_result)
        if release is not None and release >= FIRST_WITH_REASON:
            self._client.knows_reasons = True
            if token_sync.is_signed_in:
                self._notify_routing_ready()
        if not self.peer.closed:
            self.login.follow(lambda: token_sync.is_idle)

    async def list_sessions(self, params: Raw | None) -> object:
        """Answer `accountSession/list` with the one login. Ask the child first, because its release may not have it.

        Raises:
            RpcError: the child refused the request, or has ended.
        """
        from authstate.adapters.proxy.account_sessions import sessions_of

        try:
            listed = await self.peer.request(SESSIONS_METHOD, {} if params is None else params)
        except RemoteError as error:
            raise RpcError(error.code, error.message) from None
        except PeerClosed:
            raise RpcError(INTERNAL_ERROR, "the app-server ended before it answered") from None
        if self._token_sync is None or self.login.engine is None:
            return listed  # the child acts with a login of its own
        return sessions_of(self.login.engine.session, time.time())

    async def settled(self) -> None:
        """Return when the child acts with what the engine holds. Cancellation ends the wait only."""
        if self._token_sync is not None:
            await self._token_sync.settled()

    # What the child sends

    def on_request(self, message: Envelope, size: int) -> None:
        """Answer a refresh request."""
        self._child.endpoint.apply_backpressure()
        self.peer.message_received(message, size)

    def take_answer(self, message: Envelope, size: int) -> None:
        """Take an answer to a request of authstate."""
        self.peer.message_received(message, size)

    def on_turn(self, method: str, params: Raw) -> None:
        """A turn started or ended."""
        if self._token_sync is not None:
            self._token_sync.on_notification(method, params)

    def explain_failure(self, cause: "FailureCause", params: Raw) -> "Explanation | None":
        """Why a turn failed that the child reports with these params. None when the login is not the reason."""
        return self._token_sync.explain_failure(cause, params) if self._token_sync is not None else None

    # The end

    async def finish_requests(self, timeout: float) -> None:
        """The child is about to end: answer its refresh requests within so many seconds, then refuse them."""
        if not await self.peer.drained(timeout) and self._token_sync is not None:
            self._token_sync.close()
            await self.peer.drained(timeout)

    async def close(self) -> None:
        """The child is gone: wait for a refresh token that is being spent, and for logins to end."""
        await self.login.opening_ended()
        if self._token_sync is not None:
            self._token_sync.close()
        self.peer.close()
        if self._check is not None:
            self._check.cancel()
        await self.login.close()

    def _on_open(self, engine: "AuthEngine") -> None:
        """Let the engine find out whether it can refresh an expired login, while the child starts."""
        from authstate.adapters.child.token_sync import TokenSync

        self._check = asyncio.create_task(engine.check())
        self._token_sync = TokenSync(engine, self.peer, warn=self._log.warn, others=self._child.gate)

    def _notify_routing_ready(self) -> None:
        """Notify as codex does after a start with a stored login. A child that took it knows the routing."""
        from authstate.adapters.app_server.wire import ACCOUNT_UPDATED, ROUTING_READY, AccountUpdatedForReason
        from authstate.engine.model.events import AccountUpdated, AuthMode

        assert self.login.engine is not None
        now = AccountUpdated.of(self.login.engine.session)
        if now.auth_mode is AuthMode.CHATGPT:
            params = AccountUpdatedForReason(now.auth_mode, now.plan_type, ROUTING_READY)
            self._client.notify(ACCOUNT_UPDATED, params)

    def _handle(self, method: str, params: Raw | None) -> object:
        if method != REFRESH_METHOD:
            raise RpcError(INVALID_REQUEST, f"authstate does not answer {method}")
        if self._token_sync is None:
            raise RpcError(INTERNAL_ERROR, "there are no tokens yet: try again in a moment")
        return self._token_sync.answer(params)

    async def _read_rate_limits(self) -> object:
        """Ask the child for the rate limits first: it knows all that its own release shows. Then ask the backend."""
        try:
            async with asyncio.timeout(_RATE_LIMITS_WITHIN):
                return await self.peer.request("account/rateLimits/read", {})
        except (RemoteError, PeerClosed, TimeoutError):
            return await self.login.read_rate_limits()
