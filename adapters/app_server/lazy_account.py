"""The account behind a connection: the engine, the account API on top of it, and what both need, opened late."""

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from authstate.adapters.config import Config, Environment
from authstate.adapters.jsonrpc.peer import INTERNAL_ERROR, Peer, RpcError

if TYPE_CHECKING:
    from authstate.adapters.app_server.account_api import AccountApi, Notify
    from authstate.adapters.app_server.deferred_log import DeferredLog
    from authstate.adapters.app_server.logins import InteractiveLogins
    from authstate.engine.engine import AuthEngine


_LOOK_EVERY = 1.0  # seconds between two looks at what other processes do to the login


class LazyAccount:
    """Opens the account of one client, and closes it.

    Args:
        config, environment: what was configured.
        settings: members of `RefreshSettings` that differ from the default.
        peer: the client, who is asked for new tokens when it brought them itself.
        notify: how the client hears of events.
        log: hears every event.
    """

    def __init__(
        self,
        config: Config,
        environment: Environment,
        settings: Mapping[str, Any],
        peer: Peer,
        notify: "Notify",
        log: "DeferredLog",
    ) -> None:
        self._config = config
        self._environment = environment
        self._settings = settings
        self._peer = peer
        self._notify = notify
        self._log = log
        self._logins: InteractiveLogins | None = None
        self._following: asyncio.Task[None] | None = None
        self.client_name: str | None = None
        """Of the client, as `initialize` told it; None before that."""
        self.engine: AuthEngine | None = None
        """Started; None before `open`."""

    async def open(self) -> "AccountApi":
        """Import and start what the first answer of a connection did not need.

        Raises:
            ConfigError, AuthError: the account cannot be opened; it may be tried again.
        """
        from authstate.adapters.app_server.account_api import AccountApi, PeerTokenSource
        from authstate.adapters.app_server.logins import InteractiveLogins
        from authstate.adapters.assembly import EngineOptions, open_engine
        from authstate.adapters.oauth.issuer import Issuer

        # `CODEX_API_KEY` is for `codex exec`: the app-server of every release ignores it.
        options: EngineOptions = {"parent": PeerTokenSource(self._peer), "api_key": None}
        if self._settings:
            from authstate.engine.flows.refresh import RefreshSettings

            options["settings"] = RefreshSettings(**self._settings)
        engine = open_engine(self._config, self._environment, **options)
        engine.subscribe(self._log.on_event)
        await engine.start()
        self.engine = engine
        self._logins = InteractiveLogins(engine, Issuer.of(self._environment), self._originator)
        return AccountApi(
            engine,
            self._notify,
            requires_openai_auth=self._config.requires_openai_auth,
            rate_limits=self.read_rate_limits,
            logins=self._logins,
        )

    def follow(self) -> None:
        """From here on do within a second what other processes do to the stored login, and tell the client so."""
        assert self.engine is not None
        self._following = asyncio.create_task(follow_others(self.engine))

    def _originator(self) -> str | None:
        """As whom the issuer is asked, as codex has it: the environment's word, or else the client's name."""
        return self._environment.originator or self.client_name

    async def close(self) -> None:
        """Wait for a refresh token that is being spent, and for logins to end. Any number of times."""
        if self._following is not None:
            self._following.cancel()
        if self.engine is not None:
            await self.engine.close()
        if self._logins is not None:
            await self._logins.closed()

    async def read_rate_limits(self) -> object:
        """Ask the backend for the rate limits of the account; see `account/rateLimits/read`.

        Raises:
            RpcError: it did not tell them.
            AuthError: there is no authorization.
        """
        from authstate.adapters.app_server.rate_limits import RateLimitsUnavailable, read_rate_limits

        assert self.engine is not None
        try:
            base_url, network = self._config.chatgpt_base_url, self._environment.network
            return await read_rate_limits(self.engine, base_url, network=network)
        except RateLimitsUnavailable as error:
            raise RpcError(INTERNAL_ERROR, f"the rate limits cannot be read: {error}") from None


async def follow_others(engine: "AuthEngine", is_idle: Callable[[], bool] = lambda: False) -> None:
    """Look once a second whether another process signed in or out, and do the same. Runs until it is cancelled.

    Args:
        engine: started.
        is_idle: whether nobody has a request under way, so that newer tokens of another process are adopted, too.
    """
    while True:
        await asyncio.sleep(_LOOK_EVERY)
        await engine.follow(adopt=is_idle())
