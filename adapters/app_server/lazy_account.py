"""The account behind a connection, opened late: the engine, the account API on top of it, and what both need.

`initialize` is answered before the engine is imported. `LazyAccount` owns the opening: it opens once, and again at the
next request if that failed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from authstate.adapters.app_server.connected_client import ConnectedClient
from authstate.adapters.config import Config, Environment
from authstate.adapters.jsonrpc.peer import INTERNAL_ERROR, RpcError

if TYPE_CHECKING:
    from authstate.adapters.app_server.account_api import AccountApi
    from authstate.adapters.app_server.deferred_log import DeferredLog
    from authstate.adapters.app_server.interactive_logins import InteractiveLogins
    from authstate.engine.engine import AuthEngine
    from authstate.engine.flows.background import Background


class AccountSetup(NamedTuple):
    """What an account is opened with."""

    config: Config
    environment: Environment
    settings: Mapping[str, Any] = {}
    """Members of `RefreshSettings` that differ from the default."""


class OpenAccount(NamedTuple):
    """What an opening brings."""

    engine: "AuthEngine"
    api: "AccountApi"
    logins: "InteractiveLogins"


class LazyAccount:
    """Opens the account of one client, and closes it.

    Args:
        setup: what was configured.
        client: gets the engine's events, and is asked for new tokens when it brought the current ones itself.
        log: gets every event.
        on_open: called with the engine once it has started.
        rate_limits: reads the rate limits; by default `read_rate_limits`.
    """

    def __init__(
        self,
        setup: AccountSetup,
        client: ConnectedClient,
        log: "DeferredLog",
        *,
        on_open: "Callable[[AuthEngine], None] | None" = None,
        rate_limits: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        self._setup = setup
        self._client = client
        self._log = log
        self._on_open = on_open
        self._rate_limits = rate_limits or self.read_rate_limits
        self._opening: asyncio.Future[OpenAccount] | None = None
        self._open_account: OpenAccount | None = None
        self._background: Background | None = None

    @property
    def engine(self) -> "AuthEngine | None":
        """Started; None until the account is open."""
        return self._open_account.engine if self._open_account is not None else None

    @property
    def api(self) -> "AccountApi | None":
        """What answers account requests; None until the account is open."""
        return self._open_account.api if self._open_account is not None else None

    def start(self) -> None:
        """Begin to open, unless that is under way or done."""
        if self._opening is None or (self._opening.done() and self._open_account is None):
            self._opening = asyncio.ensure_future(self._open_once())
            self._opening.add_done_callback(_retrieve_exception)

    async def opened(self) -> "AccountApi":
        """Return what answers account requests, once it is open. Cancellation ends the wait only.

        Raises:
            RpcError: the account cannot be opened; the message says why. It may be tried again.
        """
        self.start()
        assert self._opening is not None
        try:
            return (await asyncio.shield(self._opening)).api
        except Exception as error:
            raise RpcError(INTERNAL_ERROR, explain(error)) from None

    def follow(self, is_idle: Callable[[], bool] | None = None) -> None:
        """From now on apply sign-ins and sign-outs of other processes within a second, and tell the client.

        Args:
            is_idle: see `AuthEngine.background`.
        """
        assert self.engine is not None
        self._background = self.engine.background(keep_fresh=False, is_idle=is_idle)
        self._background.start()

    async def opening_ended(self) -> None:
        """Wait for an opening that is under way, so that what it opened can be closed. Never raises what it raised."""
        if self._opening is not None:
            await asyncio.wait([self._opening])

    async def close(self) -> None:
        """Wait for an opening, for a refresh token that is being spent, and for logins to end. May be called again."""
        await self.opening_ended()
        if self._background is not None:
            await self._background.stop()
        if self._open_account is not None:
            await self._open_account.engine.close()
            await self._open_account.logins.closed()

    async def read_rate_limits(self) -> object:
        """Ask the backend for the rate limits of the account; see `account/rateLimits/read`.

        Raises:
            RpcError: the backend did not give them.
            AuthError: there is no authorization.
        """
        from authstate.adapters.app_server.rate_limits import RateLimitsUnavailable, read_rate_limits

        assert self.engine is not None
        try:
            base_url, network = self._setup.config.chatgpt_base_url, self._setup.environment.network
            return await read_rate_limits(self.engine, base_url, network=network)
        except RateLimitsUnavailable as error:
            raise RpcError(INTERNAL_ERROR, f"the rate limits cannot be read: {error}") from None

    async def _open_once(self) -> OpenAccount:
        # Not in a callback: a request between the end of the task and its callback would open a second account.
        self._open_account = await self._open()
        if self._on_open is not None:
            self._on_open(self._open_account.engine)
        return self._open_account

    async def _open(self) -> OpenAccount:
        """Import and start what the first answer of a connection did not need. Raises ConfigError, AuthError."""
        from authstate.adapters.app_server.account_api import AccountApi, PeerTokenSource
        from authstate.adapters.app_server.interactive_logins import InteractiveLogins
        from authstate.adapters.assembly import EngineOptions, build_engine
        from authstate.adapters.oauth.issuer import Issuer

        setup = self._setup
        # `CODEX_API_KEY` is for `codex exec`: the app-server of every release ignores it.
        options: EngineOptions = {"parent": PeerTokenSource(self._client.peer), "api_key": None}
        if setup.settings:
            from authstate.engine.model.refresh_settings import RefreshSettings

            options["settings"] = RefreshSettings(**setup.settings)
        engine = build_engine(setup.config, setup.environment, **options)
        engine.subscribe(self._log.on_event)
        await engine.start()
        logins = InteractiveLogins(engine, Issuer.of(setup.environment), self._originator)
        api = AccountApi(
            engine,
            self._client.notify,
            requires_openai_auth=setup.config.requires_openai_auth,
            rate_limits=self._rate_limits,
            logins=logins,
        )
        return OpenAccount(engine, api, logins)

    def _originator(self) -> str | None:
        """The originator for the issuer, as codex has it: that of the environment, or else the client's name."""
        return self._setup.environment.originator or self._client.name


def explain(error: Exception) -> str:
    """What the client may read of an error: the messages written for people, and of any other the class only."""
    from authstate.adapters.config import ConfigError
    from authstate.engine.model.errors import AuthError

    if isinstance(error, AuthError | ConfigError):
        return str(error)
    return f"the account cannot be opened ({type(error).__name__})"


def _retrieve_exception(opening: asyncio.Future[OpenAccount]) -> None:
    """Retrieve the exception of an opening that nobody waits for, so that the event loop does not report it."""
    if not opening.cancelled():
        opening.exception()
