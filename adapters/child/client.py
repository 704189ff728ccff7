"""AppServerClient: one `codex app-server` child whose login is an engine's.

    async with AppServerClient.of_command(engine, ["codex", "app-server"], name="service", version="1.0") as link:
        thread = await link.request("thread/start", {"cwd": "/srv"})

The child gets the engine's tokens after the handshake and at every change, and asks the client for newer ones. One
engine serves any number of clients, and the end of a child affects no other.
"""

import asyncio
import os
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Protocol, Self

import msgspec
from msgspec import Raw

from authstate.adapters.app_server import wire
from authstate.adapters.child.command_line import ephemeral_command
from authstate.adapters.child.failed_turns import failure_cause, replace_message
from authstate.adapters.child.own_login import ChildHasOwnLogin
from authstate.adapters.child.pinned_store import refuse_pinned_store
from authstate.adapters.child.token_dialects import dialect_of
from authstate.adapters.child.token_push import Warn
from authstate.adapters.child.token_sync import TokenSync
from authstate.adapters.io.child_environment import child_environment
from authstate.adapters.jsonrpc.peer import INVALID_REQUEST, Peer, PeerClosed, RpcError
from authstate.engine.clock import SystemClock, within
from authstate.engine.engine import AuthEngine
from authstate.engine.model.errors import AuthstateError
from authstate.engine.ports import Clock

_CHUNK = 256 * 1024  # bytes a read
_LONGEST_LINE = 256 * 1024 * 1024  # bytes: a child may answer with a whole conversation
_HANDSHAKE = 30.0  # seconds
_LAST_ANSWERS = 0.5  # seconds that the child's open requests get at the end
_END_WITHIN = 5.0  # seconds that a child gets to end by itself

NotificationHandler = Callable[[str, Any], None]
"""Takes a notification's method and its params, decoded."""
RequestHandler = Callable[[str, Any], object]
"""Takes a request's method and its params, decoded; returns a result or an awaitable of one. Raises RpcError."""


class Incoming(Protocol):
    """The bytes of a child: an `asyncio.StreamReader`."""

    async def read(self, n: int = -1) -> bytes:
        """Return some bytes, at most so many; none at the end."""
        ...


class Outgoing(Protocol):
    """The bytes to a child: an `asyncio.StreamWriter`."""

    def write(self, data: bytes) -> None:
        """Send, or hold until it can be sent."""

    def close(self) -> None:
        """Send what is held, and end."""


class HandshakeFailed(AuthstateError):
    """The child did not answer `initialize` as an app-server does. The message says what it did instead."""


def _refuse(method: str, params: Any) -> object:
    raise RpcError(INVALID_REQUEST, f"this client does not answer {method}")


def _ignore(*_: object) -> None:
    return None


class _RequestGate:
    """Holds the client's own requests while the child changes its account (see `Holdable`)."""

    def __init__(self) -> None:
        self._is_open = asyncio.Event()
        self._is_open.set()
        self._holders = 0

    def hold(self) -> None:
        self._holders += 1
        self._is_open.clear()

    def release(self) -> None:
        self._holders -= 1
        if not self._holders:
            self._is_open.set()

    async def wait_open(self) -> None:
        """Return once nobody holds it."""
        await self._is_open.wait()


class AppServerClient:
    """A client of one child.

    Args:
        engine: started.
        incoming: the output of the child.
        outgoing: the input of the child.
        name: what the client is called.
        version: the version of the client.
        on_request: answers the child's requests, except its refresh requests; by default refuses each.
        on_notification: takes the child's notifications, those about its account too. It must not block.
        warn: takes what a log should hold.
        clock: measures times.
    """

    def __init__(
        self,
        engine: AuthEngine,
        incoming: Incoming,
        outgoing: Outgoing,
        *,
        name: str,
        version: str,
        on_request: RequestHandler = _refuse,
        on_notification: NotificationHandler = _ignore,
        warn: Warn = _ignore,
        clock: Clock | None = None,
    ) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._client = {"name": name, "version": version}
        self._on_request = on_request
        self._on_notification = on_notification
        self._clock = clock or SystemClock()
        self._peer = Peer(self._handle, self._handle_notification, longest_line=_LONGEST_LINE)
        self._gate = _RequestGate()
        self._token_sync = TokenSync(engine, self._peer, warn=warn, others=self._gate, clock=clock)
        self._reading: asyncio.Task[None] | None = None
        self._gone = asyncio.Event()
        self.server: dict[str, Any] = {}
        """What the child answered to `initialize`."""

    @classmethod
    def of_command(
        cls,
        engine: AuthEngine,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        cwd: str | None = None,
        **options: Any,
    ) -> "ChildOfCommand":
        """Return a context manager that starts a child and connects to it. Leaving it ends the child.

        Args:
            command: has a word `app-server`. The setting that keeps the child away from auth.json is put before it.
            environment: the whole environment of the child; by default this process's. It needs no secret, and
                `AUTHSTATE_DATABASE_KEYS` is left out.
            cwd: where the child starts.
            options: the keyword arguments of `AppServerClient`.

        Entering raises OSError (no such program), CommandError, HandshakeFailed, and ConfigError where a file of the
        administrator would let the child open the login in this process's CODEX_HOME.
        """
        return ChildOfCommand(engine, ephemeral_command(command), environment, cwd, options)

    async def open(self) -> Self:
        """Initialize the child and give it its tokens.

        Raises:
            HandshakeFailed: the child is no app-server, or it ended, was silent for 30 seconds, or acts with a login
                that it opened itself. Such a child gets five seconds to end.

        Cancelled, nothing is left open but the streams.
        """
        self._peer.connect(self._outgoing)
        self._reading = asyncio.create_task(self._read())
        params = {"clientInfo": self._client, "capabilities": {"experimentalApi": True}}
        try:
            answer = await within(self._clock, _HANDSHAKE, self._peer.request("initialize", params))
            self.server = msgspec.json.decode(answer, type=dict[str, Any])
        except TimeoutError:
            self._end()
            raise HandshakeFailed(f"the child did not answer `initialize` within {_HANDSHAKE:g} seconds") from None
        except PeerClosed:
            raise HandshakeFailed("the child ended before it answered `initialize`") from None
        except Exception as error:
            self._end()
            raise HandshakeFailed(f"the child did not answer `initialize` as an app-server does ({error})") from None
        except BaseException:
            self._end()
            raise
        self._peer.notify("initialized", None)
        try:
            await self._token_sync.begin(dialect_of(answer))
        except ChildHasOwnLogin as error:
            await self.close()
            raise HandshakeFailed(str(error)) from None
        return self

    async def request(self, method: str, params: object = None) -> Any:
        """Ask the child and return the result, decoded. No time limit; cancelled, a late answer is dropped.

        Waits while the child changes from one account to another, so that the child acts with the new one.

        Raises:
            RemoteError: the child answered with an error.
            PeerClosed: the child ended, before or after it was asked.
        """
        await self._gate.wait_open()
        return msgspec.json.decode(await self._peer.request(method, {} if params is None else params))

    def notify(self, method: str, params: object = None) -> None:
        """Send a notification. Does nothing when the child is gone."""
        self._peer.notify(method, params)

    async def wait_closed(self) -> None:
        """Return when the child has closed its output: it ended, or died."""
        await self._gone.wait()

    async def close(self) -> None:
        """Close the child's input, and wait a few seconds for the end of its output. May be called again.

        Refuses open requests of the child, because it would wait for the answers before it ends. Cancelling the caller
        ends the wait.
        """
        self._token_sync.close()
        await self._peer.drained(_LAST_ANSWERS)
        self._outgoing.close()
        try:
            await within(self._clock, _END_WITHIN, self._gone.wait())
        except TimeoutError:
            self._end()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # What the child sends

    async def _read(self) -> None:
        try:
            with suppress(OSError):  # a broken pipe is an end, too
                while data := await self._incoming.read(_CHUNK):
                    self._peer.data_received(data)
            self._peer.eof_received()
        finally:
            self._end()

    def _end(self) -> None:
        self._token_sync.close()
        self._peer.close()
        self._gone.set()
        if self._reading is not None and self._reading is not asyncio.current_task():
            self._reading.cancel()

    def _handle(self, method: str, params: Raw | None) -> object:
        if method == wire.REFRESH_METHOD:
            return self._token_sync.answer(params)
        return self._on_request(method, _decoded(params))

    def _handle_notification(self, method: str, params: Raw | None) -> None:
        self._token_sync.on_notification(method, params)
        if params is not None and (cause := failure_cause(method, bytes(params))) is not None:
            explanation = self._token_sync.explain_failure(cause, params)
            if explanation is not None:
                params = Raw(replace_message(bytes(params), cause, explanation))
        self._on_notification(method, _decoded(params))


class ChildOfCommand:
    """A child and the client of it; see `AppServerClient.of_command`."""

    def __init__(
        self,
        engine: AuthEngine,
        command: Sequence[str],
        environment: Mapping[str, str] | None,
        cwd: str | None,
        options: Mapping[str, Any],
    ) -> None:
        self._engine = engine
        self._command = command
        self._environment = environment
        self._cwd = cwd
        self._options = options
        self._process: Process | None = None
        self._client: AppServerClient | None = None

    async def __aenter__(self) -> AppServerClient:
        environment = os.environ if self._environment is None else self._environment
        refuse_pinned_store(self._command, environment, os.environ)
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=PIPE,
            stdout=PIPE,
            env=child_environment(self._environment),
            cwd=self._cwd,
            limit=_CHUNK,
        )
        self._process = process
        assert process.stdin is not None and process.stdout is not None
        link = AppServerClient(self._engine, process.stdout, process.stdin, **self._options)
        try:
            self._client = await link.open()
        except BaseException:
            await self._stop(grace=0)
            raise
        return link

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client is not None:
            await self._client.close()
        await self._stop(grace=_END_WITHIN)

    async def _stop(self, grace: float) -> None:
        """Wait for the child's end, and kill it after so many seconds."""
        process = self._process
        assert process is not None
        if grace:
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), grace)
        if process.returncode is None:
            process.kill()
            await process.wait()


def _decoded(params: Raw | None) -> Any:
    return None if params is None else msgspec.json.decode(params)
