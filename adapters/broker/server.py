"""The server of `authstate broker`: uvicorn on a TCP address and on a unix socket, until a signal ends it."""

import asyncio
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from socket import socket
from ssl import SSLContext
from urllib.parse import urlsplit

import msgspec
import uvicorn
from starlette.types import ASGIApp

from authstate.adapters.broker.app import create_broker_app
from authstate.adapters.broker.broker import Broker
from authstate.adapters.broker.broker_log import BrokerLog
from authstate.adapters.broker.connections import BoundedHttpProtocol, OwnersHttpProtocol
from authstate.adapters.broker.event_streams import SseStreams
from authstate.adapters.broker.listeners import Address, UnixSocket, tls_context
from authstate.adapters.broker.local_api import LocalApp, Place
from authstate.adapters.broker.metrics import BrokerMetrics
from authstate.adapters.config import ConfigError, Environment
from authstate.adapters.logs.event_lines import log_event

_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
_MOST_CONNECTIONS = 1000
_KEEP_ALIVE = 60  # seconds
_LAST_ANSWERS = 35  # seconds that requests which are under way get at the end: a refresh takes up to 30
_TICK = 1.0  # seconds between two looks at the clock, for the `Date` header


class ServerOptions(msgspec.Struct, frozen=True):
    """Where a broker listens."""

    address: Address
    socket: str | None
    """The path of the unix socket. None: there is none."""
    certificate: str | None = None
    key: str | None = None
    hosts: tuple[str, ...] = ()
    """More names in `Host` under which the broker may be reached, on loopback."""


class BrokerServer:
    """Serves a broker. It listens from the beginning, so that a wrong option is an error at once.

    Args:
        broker: gives the tokens. It is not closed with this.
        environment: what was configured.
        options: where to listen.

    Raises:
        ConfigError: an option cannot be used, or the broker would send refresh tokens to itself.
        OSError: the unix socket cannot be created.
    """

    def __init__(self, broker: Broker, environment: Environment, options: ServerOptions) -> None:
        self._broker = broker
        self._context = tls_context(options.address, options.certificate, options.key)
        self._sockets = options.address.listen()
        self._unix: UnixSocket | None = None
        self._end = asyncio.Event()
        try:
            self.place: Place = Place(_url(options.address, self._sockets, self._context), options.socket)
            _ensure_not_itself(environment, self.place.url)
            if options.socket is not None:
                for folder in (environment.home, os.path.dirname(options.socket)):
                    os.makedirs(folder, mode=0o700, exist_ok=True)
                self._unix = UnixSocket(options.socket)
        except BaseException:
            self.close()
            raise
        ours = urlsplit(self.place.url).netloc.rpartition(":")[0]
        self._hosts = None if self._context else {*_LOOPBACK_NAMES, ours.lower(), *map(str.lower, options.hosts)}

    async def serve(self, ready: Callable[[Place], None]) -> None:
        """Serve until `stop`. Then answer what is under way, at most 35 seconds. Cancelling it stops it, too.

        Args:
            ready: called once connections are accepted.
        """
        metrics = BrokerMetrics(self._broker)
        streams = SseStreams(self._broker, metrics)
        log = BrokerLog(self._broker)
        app = create_broker_app(self._broker, hosts=self._hosts, metrics=metrics, on_refusal=log.refused)
        servers = [_Server(app, BoundedHttpProtocol.of(_MOST_CONNECTIONS), self._end, self._context)]
        listeners: list[Sequence[socket]] = [self._sockets]
        if self._unix is not None:
            local = LocalApp(self._broker, metrics, streams, self.place, log.refused)
            servers.append(_Server(local, OwnersHttpProtocol.of(_MOST_CONNECTIONS), self._end, None))
            listeners.append([self._unix.listener])
        async with AsyncExitStack() as stack:
            stack.callback(self.close)
            stack.callback(self._broker.events.subscribe(log_event))
            stack.push_async_callback(log.close)
            stack.push_async_callback(_cancel, asyncio.create_task(log.watch()))
            async with asyncio.TaskGroup() as group:
                for server, sockets in zip(servers, listeners, strict=True):
                    group.create_task(server.serve(list(sockets)))
                await asyncio.gather(*(server.accepts.wait() for server in servers))
                ready(self.place)
                try:
                    await self._end.wait()
                finally:
                    self._end.set()
                    streams.close()

    def stop(self) -> None:
        """End `serve`."""
        self._end.set()

    def close(self) -> None:
        """Release the addresses. `serve` does it at its end."""
        for listener in self._sockets:
            listener.close()
        if self._unix is not None:
            self._unix.close()


class _Server(uvicorn.Server):
    """A uvicorn server without signal handlers, access log and lifespan: all of that is ours.

    Args:
        app: what is served.
        protocol: a connection.
        end: set when it is to end.
        context: for TLS.
    """

    def __init__(
        self, app: ASGIApp, protocol: type[BoundedHttpProtocol], end: asyncio.Event, context: SSLContext | None
    ) -> None:
        config = uvicorn.Config(
            app,
            http=protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level=logging.ERROR,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=_LAST_ANSWERS,
        )
        config.load()
        config.ssl = context
        super().__init__(config)
        self.accepts = asyncio.Event()
        self._end = end

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the command."""
        yield

    async def main_loop(self) -> None:
        """Serve until the end."""
        await self.on_tick(0)
        self.accepts.set()
        while not self._end.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(_TICK):
                    await self._end.wait()
            await self.on_tick(0)


def _url(address: Address, sockets: Sequence[socket], context: SSLContext | None) -> str:
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{'https' if context else 'http'}://{host}:{sockets[0].getsockname()[1]}"


def _ensure_not_itself(environment: Environment, url: str) -> None:
    """Refuse to be the issuer that this process sends refresh tokens to. Raises ConfigError."""
    named = urlsplit(environment.refresh_url or "")
    ours = urlsplit(url)
    if named.hostname in (ours.hostname, *_LOOPBACK_NAMES, "::1") and named.port == ours.port:
        raise ConfigError(
            "CODEX_REFRESH_TOKEN_URL_OVERRIDE names this broker, which would send refresh tokens to itself: start it "
            f"without that variable, or set AUTHSTATE_BROKER_URL={url} beside it"
        )


async def _cancel(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
