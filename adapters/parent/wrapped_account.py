"""The account between a front-end and its child: the engine, the API for the front-end, the tokens for the child."""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Raw

from authstate.adapters.app_server.late_log import LateLog
from authstate.adapters.app_server.messages import REFRESH_METHOD
from authstate.adapters.app_server.open_account import OpenAccount, follow_others
from authstate.adapters.config import Config, Environment
from authstate.adapters.jsonrpc import INTERNAL_ERROR, INVALID_REQUEST, Peer, PeerGone, RemoteError, RpcError
from authstate.adapters.parent.front_end import FrontEnd

if TYPE_CHECKING:
    from authstate.adapters.app_server.handshake import Api
    from authstate.adapters.parent.handover import Handover
    from authstate.adapters.parent.traffic import Holdable
    from authstate.engine.session import Session

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
        log: LateLog,
        id_prefix: str,
        others: "Holdable",
    ) -> None:
        self.peer = Peer(self._answer, id_prefix=id_prefix)
        """Ours, of the child."""
        self._configured = (config, environment, settings)
        self._log = log
        self._others = others
        self._account: OpenAccount | None = None
        self._handover: Handover | None = None
        self._looking: asyncio.Task[Session] | None = None
        self._following: asyncio.Task[None] | None = None

    def serve(self, front_end: FrontEnd) -> None:
        """Who is told of events, and asked for tokens that it brought itself. Call it before `open`."""
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
        from authstate.adapters.parent.handover import Handover

        engine = self._account.engine
        assert engine is not None
        self._looking = asyncio.create_task(engine.check())
        self._handover = Handover(engine, self.peer, warn=self._log.warn, others=self._others)
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
            OwnLogin: the child acts with a login that it opened itself. It was handed nothing, and never will be.
        """
        from authstate.adapters.parent.dialect import dialect_of
        from authstate.adapters.parent.own_login import OwnLogin

        assert self._account is not None and self._account.engine is not None and self._handover is not None
        handover = self._handover
        handover.dialect = dialect_of(introduction)
        try:
            await handover.begin()
        except OwnLogin:
            handover.close()
            self._handover = None
            raise
        if not self.peer.closed:
            self._following = asyncio.create_task(follow_others(self._account.engine, lambda: handover.is_idle))

    async def caught_up(self) -> None:
        """Return when the child acts with what the engine holds. Cancellation ends the wait only."""
        if self._handover is not None:
            await self._handover.caught_up()

    def why_refused(self) -> str | None:
        """Why the child's last question got no tokens, and what to do; None when it got some."""
        return self._handover.refusal if self._handover is not None else None

    def needs_login(self) -> bool:
        """Whether only a new sign-in helps against that refusal."""
        return self._handover is not None and self._handover.needs_login

    def heard(self, method: str, params: Raw) -> None:
        """The child told that a turn started or ended."""
        if self._handover is not None:
            self._handover.heard(method, params)

    async def last_answers(self, patience: float) -> None:
        """The child is about to end: let its questions be answered within so many seconds, then refuse them."""
        if not await self.peer.drained(patience) and self._handover is not None:
            self._handover.close()
            await self.peer.drained(patience)

    async def close(self) -> None:
        """The child is gone: wait for a refresh token that is being spent, and for logins to end."""
        if self._handover is not None:
            self._handover.close()
        self.peer.close()
        for task in (self._looking, self._following):
            if task is not None:
                task.cancel()
        if self._account is not None:
            await self._account.close()

    def _answer(self, method: str, params: Raw | None) -> object:
        if method != REFRESH_METHOD:
            raise RpcError(INVALID_REQUEST, f"this is no question to the wrapper: {method}")
        if self._handover is None:
            raise RpcError(INTERNAL_ERROR, "there are no tokens yet: try again in a moment")
        return self._handover.answer(params)


class _Account(OpenAccount):
    """Asks the child for the rate limits first: it tells all that its own version knows."""

    def __init__(self, *configured: Any, child: Peer) -> None:
        super().__init__(*configured)
        self._child = child

    async def read_rate_limits(self) -> object:
        """The child's answer; our own where the child has none, as when its token was refused."""
        try:
            async with asyncio.timeout(_RATE_LIMITS_WITHIN):
                return await self._child.request("account/rateLimits/read", {})
        except (RemoteError, PeerGone, TimeoutError):
            return await super().read_rate_limits()
