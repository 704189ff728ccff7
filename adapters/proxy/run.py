"""`authstate wrap -- codex app-server`: runs between any front-end and its child. The engine owns the login.

    front-end  <->  wrap  <->  child
                     |
                   engine

What is not about accounts passes through. The engine answers account requests, so the front-end sees the person's real
login, while the child acts with tokens in memory and asks for newer ones. The child gets its tokens right after its
handshake; what the front-end sends meanwhile waits. All that is in relay.py; this module has the pipes and their ends.

Exit status, signals, standard error and the ends of the streams are the child's own: see child/process.py. A refresh
token that is being spent when everything ends is waited for, at most 30 seconds.
"""

import asyncio
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from authstate.adapters.app_server.deferred_log import DeferredLog
from authstate.adapters.app_server.lazy_account import AccountSetup
from authstate.adapters.child.process import FORWARDED, PipedChildProcess, may_have_reached_child
from authstate.adapters.config import Config, ConfigError, Environment
from authstate.adapters.io.signals import handle_signals
from authstate.adapters.io.streams import ByteWriter, can_be_watched, open_reader, open_writer
from authstate.adapters.proxy.relay import Relay
from authstate.engine.clock import SystemClock, within

_CTRL_C = 1.0  # seconds after which a child that got the signal from a terminal would have ended
_LAST_OUTPUT = 1.0  # seconds that the output gets to end after the child did: another process may hold it open
_LAST_REFRESH = 30.0  # seconds that a child gets to end by itself: it may be refreshing a login of its own
_LAST_WRITES = 30.0  # seconds that a slow reader gets for what is sent already


async def wrap_child(
    config: Config,
    environment: Environment,
    child: PipedChildProcess,
    *,
    stdin_fd: int = 0,
    stdout_fd: int = 1,
    settings: Mapping[str, Any] | None = None,
) -> int:
    """Run between the front-end at these two descriptors and the child, until the child has ended.

    Args:
        config, environment: what was configured.
        child: running.
        stdin_fd, stdout_fd: they are left open. What anything else prints goes to stderr from here on.
        settings: members of `RefreshSettings` that differ from the default.

    Returns:
        The child's exit status, minus the signal's number after a signal.

    Raises:
        OSError: a descriptor cannot be used.
        ConfigError: the child acts with a login that it opened itself. It was sent no tokens, and has ended.
    """
    sys.stdout = sys.stderr
    return await _WrapSession(AccountSetup(config, environment, settings or {}), child).run(stdin_fd, stdout_fd)


class _WrapSession:
    """The pipes of a relay, and their ends."""

    def __init__(self, setup: AccountSetup, child: PipedChildProcess) -> None:
        self._child = child
        self._log = DeferredLog()
        self._relay = Relay(setup, self._log, self._give_up)
        self._fault: str | None = None  # why the child was given up
        self._to_child: ByteWriter | None = None
        self._to_front_end: ByteWriter | None = None
        self._is_end_expected = False  # somebody signalled us, or the front-end is gone, or the child was given up
        self._status: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._output_ended = asyncio.Event()
        self._ending: asyncio.Task[None] | None = None

    async def run(self, stdin_fd: int, stdout_fd: int) -> int:
        """Relay bytes until the child has ended. Return its exit status."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._log.on_loop_exception)
        self._child.when_ended(lambda status: loop.call_soon_threadsafe(self._child_ended, status))
        handle_signals(FORWARDED, self._on_signal)
        self._relay.open()
        await self._connect(stdin_fd, stdout_fd)
        status = await self._status
        with suppress(TimeoutError):
            await within(SystemClock(), _LAST_OUTPUT, self._output_ended.wait())
        if status and not (self._relay.is_initialized or self._is_end_expected):
            print(f"authstate: {self._child.describe_end(status)} before it answered `initialize`", file=sys.stderr)
        self._relay.front_end.reads.pause("the end")
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
        self._to_front_end = await open_writer(stdout_fd, relay.front_end, self._front_end_is_gone, watched=outgoing)
        self._to_child = await open_writer(child.stdin_fd, relay.child, relay.child_stopped_reading, watched=to_child)
        relay.connect(self._to_front_end, self._to_child)
        relay.child.reads.attach(
            await open_reader(child.stdout_fd, relay.from_child, self._output_is_over, watched=from_child)
        )
        relay.front_end.reads.attach(
            await open_reader(stdin_fd, relay.from_front_end, self._input_is_over, watched=incoming)
        )

    # Ends

    def _on_signal(self, number: int) -> None:
        """Forward a signal to the child.

        Ctrl-C at a terminal reaches the child as well. A child that is still running a second later either ignores it,
        or did not get it. Which of the two cannot be known, so it gets the signal then.
        """
        self._is_end_expected = True
        delay = _CTRL_C if may_have_reached_child(number) else 0.0
        asyncio.get_running_loop().call_later(delay, self._child.forward, number)

    def _input_is_over(self) -> None:
        """The front-end sends no more: close the child's input once the child has what was sent."""
        self._ending = asyncio.create_task(self._end_input())

    def _give_up(self, why: str) -> None:
        """End the child, which has a login of its own. It may be refreshing it: let it store the new tokens."""
        self._fault = why
        self._is_end_expected = True
        self._child.close_stdin()
        asyncio.get_running_loop().call_later(_LAST_REFRESH, self._child.forward, signal.SIGTERM)

    async def _end_input(self) -> None:
        await self._relay.front_end_ended()
        if self._to_child is not None:
            await self._to_child.finish(_LAST_WRITES)
        self._child.close_stdin()

    def _output_is_over(self) -> None:
        self._relay.child_ended()
        self._output_ended.set()

    def _front_end_is_gone(self) -> None:
        """The front-end reads no more: close the child's output, as it would be without authstate."""
        self._is_end_expected = True
        self._relay.front_end_stopped_reading()
        self._relay.child.reads.pause("nobody reads")
        self._output_ended.set()
        self._child.close_stdout()

    def _child_ended(self, status: int) -> None:
        if not self._status.done():
            self._status.set_result(status)
