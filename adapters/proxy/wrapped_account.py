"""The account between a front-end and its child: the engine, the API for the front-end, the tokens for the child."""

import asyncio
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Raw

from authstate.adapters.app_server.deferred_log import DeferredLog
from authstate.adapters.app_server.lazy_account import LazyAccount, follow_others
from authstate.adapters.app_server.wire import REFRESH_METHOD, SESSIONS_METHOD
from authstate.adapters.config import Config, Environment
from authstate.adapters.jsonrpc.peer import INTERNAL_ERROR, INVALID_REQUEST, Peer, PeerClosed, RemoteError, RpcError
from authstate.adapters.proxy.front_end import FrontEnd

if TYPE_CHECKING:
    from authstate.adapters.app_server.handshake import Api
    from authstate.adapters.child.failed_turns import Explanation, FailureCause
    from authstate.adapters.child.token_sync import TokenSync
    from authstate.adapters.child.token_updates import Holdable
    from authstate.engine.model.session import Session

_RATE_LIMITS_WITHIN = 30.0  # seconds
_UNKNOWN = Raw(b"{}")


class WrappedAccount:
    """Opens the account late, hands its tokens to the child, and closes it.

    Args:
        config, environment: what was configured.
        settings: members of `RefreshSettings` that differ from the default.
        log: hears every event.
        id_prefix: of our requests to the child; nobody else can guess it.
        others: the front-end's requests on their way to the child.
    """

    def __init__(
        self,
        config: Config,
        environment: Environment,
        settings: Mapping[str, Any],
        log: DeferredLog,
        id_prefix: str,
        others: "Holdable",
    ) -> None:
        self.peer = Peer(self._answer, id_prefix=id_prefix)
        """Ours, of the child."""
        self._configured = (config, environment, settings)
        self._log = log
        self._others = others
        self._front_end: FrontEnd | None = None
        self._account: LazyAccount | None = None
        self._token_sync: TokenSync | None = None
        self._looking: asyncio.Task[Session] | None = None
        self._following: asyncio.Task[None] | None = None

    def serve(self, front_end: FrontEnd) -> None:
        """Who is told of events, and asked for tokens that it brought itself. Call it before `open`."""
        self._front_end = front_end
        config, environment, settings = self._configured
        self._account = _Account(
            config, environment, settings, front_end.peer, front_end.notify, self._log, child=self.peer
        )

    async def open(self) -> "Api":
        """Start the engine, and let it find out whether an expired login can be refreshed: the child starts meanwhile.

        Raises:
            ConfigError, AuthError: the account cannot be opened; it may be tried again.
        """
        assert self._account is not None
        api = await self._account.open()
        from authstate.adapters.child.token_sync import TokenSync

        engine = self._account.engine
        assert engine is not None
        self._looking = asyncio.create_task(engine.check())
        self._token_sync = TokenSync(engine, self.peer, warn=self._log.warn, others=self._others)
        return api

    def introduce(self, client_name: str | None) -> None:
        """Who the front-end is, for the issuer's pages and records."""
        if self._account is not None:
            self._account.client_name = client_name

    async def hand_over(self, introduction: Raw = _UNKNOWN) -> None:
        """Give the child what the engine holds, and keep it up to date from here on. The account must be open.

        Who signs in or out in another window does so here, too: the login is that of all.

        Args:
            introduction: the result of the child's answer to `initialize`. It names the child's release, and so which
                tokens the child needs.

        Raises:
            ChildHasOwnLogin: the child acts with a login that it opened itself. It is never handed ours.
        """
        from authstate.adapters.child.dialect import FIRST_WITH_REASON, dialect_of, release_of
        from authstate.adapters.child.own_login import ChildHasOwnLogin

        assert self._account is not None and self._account.engine is not None and self._token_sync is not None
        token_sync = self._token_sync
        try:
            await token_sync.begin(dialect_of(introduction))
        except ChildHasOwnLogin:
            token_sync.close()
            self._token_sync = None
            raise
        release = release_of(introduction)
        if self._front_end is not None and release is not None and release >= FIRST_WITH_REASON:
            self._front_end.tells_reasons = True
            if token_sync.is_signed_in:
                self._tell_that_routing_is_ready(self._front_end)
        if not self.peer.closed:
            self._following = asyncio.create_task(follow_others(self._account.engine, lambda: token_sync.is_idle))

    def _tell_that_routing_is_ready(self, front_end: FrontEnd) -> None:
        """As codex does after it has started with a stored login. The child has looked while it took its tokens."""
        from authstate.adapters.app_server.wire import ACCOUNT_UPDATED, ROUTING_READY, AccountUpdatedForReason
        from authstate.engine.model.events import AccountUpdated, AuthMode

        assert self._account is not None and self._account.engine is not None
        now = AccountUpdated.of(self._account.engine.session)
        if now.auth_mode is AuthMode.CHATGPT:
            params = AccountUpdatedForReason(now.auth_mode, now.plan_type, ROUTING_READY)
            front_end.notify(ACCOUNT_UPDATED, params)

    async def list_sessions(self, params: Raw | None) -> object:
        """Answer `accountSession/list`: the login that all share. The child is asked first, for it may not know that.

        Raises:
            RpcError: the child refused the request, as one of a release that does not know it.
        """
        from authstate.adapters.proxy.account_sessions import sessions_of

        try:
            listed = await self.peer.request(SESSIONS_METHOD, {} if params is None else params)
        except RemoteError as error:
            raise RpcError(error.code, error.message) from None
        except PeerClosed:
            raise RpcError(INTERNAL_ERROR, "the app-server ended before it answered") from None
        if self._token_sync is None or self._account is None or self._account.engine is None:
            return listed  # it acts with a login of its own
        return sessions_of(self._account.engine.session, time.time())

    async def caught_up(self) -> None:
        """Return when the child acts with what the engine holds. Cancellation ends the wait only."""
        if self._token_sync is not None:
            await self._token_sync.settled()

    def why_failed(self, cause: "FailureCause", params: Raw) -> "Explanation | None":
        """Why a turn of the child failed, and what to do; None where nothing of ours explains it."""
        return self._token_sync.explain_failure(cause, params) if self._token_sync is not None else None

    def heard(self, method: str, params: Raw) -> None:
        """The child told that a turn started or ended."""
        if self._token_sync is not None:
            self._token_sync.on_notification(method, params)

    async def last_answers(self, patience: float) -> None:
        """The child is about to end: let its questions be answered within so many seconds, then refuse them."""
        if not await self.peer.drained(patience) and self._token_sync is not None:
            self._token_sync.close()
            await self.peer.drained(patience)

    async def close(self) -> None:
        """The child is gone: wait for a refresh token that is being spent, and for logins to end."""
        if self._token_sync is not None:
            self._token_sync.close()
        self.peer.close()
        for task in (self._looking, self._following):
            if task is not None:
                task.cancel()
        if self._account is not None:
            await self._account.close()

    def _answer(self, method: str, params: Raw | None) -> object:
        if method != REFRESH_METHOD:
            raise RpcError(INVALID_REQUEST, f"this is no question to the wrapper: {method}")
        if self._token_sync is None:
            raise RpcError(INTERNAL_ERROR, "there are no tokens yet: try again in a moment")
        return self._token_sync.answer(params)


class _Account(LazyAccount):
    """Asks the child for the rate limits first: it tells all that its own version knows."""

    def __init__(self, *configured: Any, child: Peer) -> None:
        super().__init__(*configured)
        self._child = child

    async def read_rate_limits(self) -> object:
        """The child's answer; our own where the child has none, as when its token was refused."""
        try:
            async with asyncio.timeout(_RATE_LIMITS_WITHIN):
                return await self._child.request("account/rateLimits/read", {})
        except (RemoteError, PeerClosed, TimeoutError):
            return await super().read_rate_limits()
