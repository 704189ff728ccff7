"""`authstate wrap -- codex app-server`: between any front-end and its child, with our engine as the owner of the login.

    front-end  <->  wrap  <->  child
                     |
                   engine

What is not about accounts passes through. Account requests are answered by the engine, so the front-end sees the
person's real login, while the child acts with tokens in memory and asks us for newer ones. The child gets its tokens
right after its handshake; what the front-end sends meanwhile waits. All that is in relay.py; here are the pipes.

Exit status, signals, standard error and the ends of the streams are the child's own: see child_process.py. A refresh
token that is being spent when everything ends is waited for, at most 30 seconds.
"""

import asyncio
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from authstate.adapters.app_server.deferred_log import DeferredLog
from authstate.adapters.child.process import FORWARDED, ChildProcess, may_have_reached_both
from authstate.adapters.config import Config, ConfigError, Environment
from authstate.adapters.io.signals import handle_signals
from authstate.adapters.io.streams import ByteWriter, can_be_watched, open_reader, open_writer
from authstate.adapters.proxy.relay import Relay
from authstate.engine.clock import SystemClock, within

_CTRL_C = 1.0  # seconds after which a child that a terminal has signalled would have ended
_LAST_OUTPUT = 1.0  # seconds that the output of a child gets to end when the child did: another process may hold it
_LAST_REFRESH = 30.0  # seconds that a child gets to end by itself which may be refreshing a login of its own
_LAST_WRITES = 30.0  # seconds that a slow reader gets for what was said already


async def carry(
    config: Config,
    environment: Environment,
    child: ChildProcess,
    *,
    stdin_fd: int = 0,
    stdout_fd: int = 1,
    settings: Mapping[str, Any] | None = None,
) -> int:
    """Be between the front-end at these two descriptors and the child, until the child has ended.

    Args:
        config, environment: what was configured.
        child: running.
        stdin_fd, stdout_fd: they are left open. What anything else prints goes to stderr from here on.
        settings: members of `RefreshSettings` that differ from the default.

    Returns:
        The child's exit status, minus the signal's number after a signal.

    Raises:
        OSError: a descriptor cannot be used.
        ConfigError: the child acts with a login that it opened itself. It was handed nothing, and has ended.
    """
    sys.stdout = sys.stderr
    return await _Wrapper(config, environment, child, settings or {}).run(stdin_fd, stdout_fd)


class _Wrapper:
    """The pipes, and the ends of everything."""

    def __init__(
        self, config: Config, environment: Environment, child: ChildProcess, settings: Mapping[str, Any]
    ) -> None:
        self._child = child
        self._log = DeferredLog()
        self._relay = Relay(config, environment, settings, self._log, self._give_up)
        self._fault: str | None = None  # why the child was given up
        self._to_child: ByteWriter | None = None
        self._to_front_end: ByteWriter | None = None
        self._is_lost = False
        self._is_told_to_end = False
        self._status: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._output_ended = asyncio.Event()
        self._ending: asyncio.Task[None] | None = None

    async def run(self, stdin_fd: int, stdout_fd: int) -> int:
        """Carry bytes until the child has ended; return its status."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._log.on_loop_exception)
        self._child.when_ended(lambda status: loop.call_soon_threadsafe(self._ended, status))
        handle_signals(FORWARDED, self._signalled)
        self._relay.open()
        await self._connect(stdin_fd, stdout_fd)
        status = await self._status
        with suppress(TimeoutError):
            await within(SystemClock(), _LAST_OUTPUT, self._output_ended.wait())
        if status and not (self._relay.is_introduced or self._is_lost or self._is_told_to_end):
            print(f"authstate: {self._child.describe_end(status)} before it answered `initialize`", file=sys.stderr)
        self._relay.front_end.reads.stop("the end")
        await self._relay.close()
        if self._ending is not None:
            self._ending.cancel()
        self._log.flush()
        if self._to_front_end is not None:
            await self._to_front_end.finish(_LAST_WRITES)
        if self._fault is not None:
            raise ConfigError(self._fault)
        return status

    async def _connect(self, stdin_fd: int, stdout_fd: int) -> None:
        relay, child = self._relay, self._child
        incoming, outgoing = can_be_watched(stdin_fd, stdout_fd)
        from_child, to_child = can_be_watched(child.stdout_fd, child.stdin_fd)
        self._to_front_end = await open_writer(stdout_fd, relay.front_end, self._nobody_reads, watched=outgoing)
        self._to_child = await open_writer(child.stdin_fd, relay.child, relay.child_is_deaf, watched=to_child)
        relay.connect(self._to_front_end, self._to_child)
        relay.child.reads.control(
            await open_reader(child.stdout_fd, relay.from_child, self._no_more_output, watched=from_child)
        )
        relay.front_end.reads.control(
            await open_reader(stdin_fd, relay.from_front_end, self._no_more_input, watched=incoming)
        )

    # Ends

    def _signalled(self, number: int) -> None:
        """Somebody wants the end of us, or tells the child something.

        Ctrl-C at a terminal reaches the child as well. A child that goes on was not meant to end, or the signal was
        for us alone: which of the two cannot be known, so then it gets ours.
        """
        self._is_told_to_end = True
        delay = _CTRL_C if may_have_reached_both(number) else 0.0
        asyncio.get_running_loop().call_later(delay, self._child.forward, number)

    def _no_more_input(self) -> None:
        """The front-end sends no more: once the child has what was sent, it hears so."""
        self._ending = asyncio.create_task(self._end_input())

    def _give_up(self, why: str) -> None:
        """End the child without a login. It may be refreshing its own: it gets time to store what comes."""
        self._fault = why
        self._is_told_to_end = True
        self._child.close_stdin()
        asyncio.get_running_loop().call_later(_LAST_REFRESH, self._child.forward, signal.SIGTERM)

    async def _end_input(self) -> None:
        await self._relay.front_end_ended()
        if self._to_child is not None:
            await self._to_child.finish(_LAST_WRITES)
        self._child.close_stdin()

    def _no_more_output(self) -> None:
        self._relay.child_ended()
        self._output_ended.set()

    def _nobody_reads(self) -> None:
        """The front-end reads no more: the child hears so as it would without us."""
        self._is_lost = True
        self._relay.front_end_is_deaf()
        self._relay.child.reads.stop("nobody reads")
        self._output_ended.set()
        self._child.close_stdout()

    def _ended(self, status: int) -> None:
        if not self._status.done():
            self._status.set_result(status)
