"""`authstate wrap -- codex app-server`: between any front-end and its child, with our engine as the owner of the login.

    front-end  <->  wrap  <->  child
                     |
                   engine

What is not about accounts passes through. Account requests are answered by the engine, so the front-end sees the
person's real login, while the child acts with tokens in memory and asks us for newer ones. The child gets its tokens
right after its handshake; what the front-end sends meanwhile waits.

Exit status, signals, standard error and the ends of the streams are the child's own: see `child_process.py`. A refresh
token that is being spent when everything ends is waited for, at most 30 seconds.
"""

import asyncio
import secrets
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any

from msgspec import Raw

from authstate.adapters.app_server.late_log import LOG_DELAY, LateLog
from authstate.adapters.app_server.pipes import ByteWriter, can_be_watched, open_reader, open_writer
from authstate.adapters.config import Config, Environment
from authstate.adapters.parent.child_process import FORWARDED, ChildProcess
from authstate.adapters.parent.directions import FromChild, FromFrontEnd, Greeting
from authstate.adapters.parent.front_end import FrontEnd
from authstate.adapters.parent.traffic import Gate, Throttle
from authstate.adapters.parent.wrapped_account import WrappedAccount
from authstate.engine.clock import SystemClock, within

_LAST_ANSWERS = 1.0  # seconds that account requests which are under way get at the end of the front-end's input
_LAST_GATE = 10.0  # seconds after that end in which a login may still be handed over
_LAST_OUTPUT = 1.0  # seconds that the output of a child gets to end when the child did: another process may hold it
_LAST_WRITES = 30.0  # seconds that a slow front-end gets for what was said already
_FRONT_END_FULL, _CHILD_FULL, _ANSWERS = "the front-end is full", "the child is full", "answers are waiting"


class _Full:
    """A writer that holds too much stops the reader at the other end of its direction."""

    def __init__(self, throttle: Throttle, reason: str) -> None:
        self._throttle = throttle
        self._reason = reason
        self._also: list[Throttle] = []
        self.is_full = False

    def pause_writing(self) -> None:
        self.is_full = True
        self._throttle.stop(self._reason)

    def resume_writing(self) -> None:
        self.is_full = False
        self._throttle.go(self._reason)
        while self._also:
            self._also.pop().go(_ANSWERS)

    def crowd(self, source: Throttle) -> None:
        """An answer is about to be written: where it would wait, `source` is to ask no more until there is room."""
        if self.is_full:
            source.stop(_ANSWERS)
            self._also.append(source)


class Wrapper:
    """One front-end and one child, from the first byte to the last.

    Args:
        config, environment: what was configured.
        child: running.
        settings: members of `RefreshSettings` that differ from the default.
    """

    def __init__(
        self, config: Config, environment: Environment, child: ChildProcess, settings: Mapping[str, Any] | None = None
    ) -> None:
        self._child = child
        self._log = LateLog()
        self._to_child: ByteWriter | None = None
        self._to_front_end: ByteWriter | None = None
        self._front_end_reads, self._child_reads = Throttle(), Throttle()
        self._front_end_full = _Full(self._child_reads, _FRONT_END_FULL)
        self._child_full = _Full(self._front_end_reads, _CHILD_FULL)
        self._gate = Gate(self._write_to_child, self._front_end_reads)
        asks_child, asks_front_end = (f"authstate-{secrets.token_hex(12)}-" for _ in range(2))
        self._account = WrappedAccount(config, environment, settings or {}, self._log, asks_child, self._gate)
        self._front_end = FrontEnd(asks_front_end, self._account, self._gate)
        self._account.serve(self._front_end)
        greeting = Greeting(self)
        self._from_front_end = FromFrontEnd(
            self._front_end.peer.data_received,
            greeting,
            asks_front_end,
            self._gate.let_pass,
            lambda: self._front_end_full.crowd(self._front_end_reads),
        ).sieve
        self._from_child = FromChild(
            self._account.peer.data_received,
            greeting,
            asks_child,
            self._write_to_front_end,
            self._account.why_refused,
            lambda: self._child_full.crowd(self._child_reads),
        ).sieve
        self._is_lost = False
        self._status: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._output_ended = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, stdin_fd: int, stdout_fd: int) -> int:
        """Carry bytes until the child has ended. Returns its exit status, minus the signal's number after a signal."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._log.hear_fault)
        self._child.when_ended(lambda status: loop.call_soon_threadsafe(self._ended, status))
        _on_signals(loop, self._child.forward)
        self._front_end.opening.start().add_done_callback(_retrieve)
        await self._connect(stdin_fd, stdout_fd)
        status = await self._status
        with suppress(TimeoutError):
            await within(SystemClock(), _LAST_OUTPUT, self._output_ended.wait())
        if status and not self._front_end.is_introduced and not self._is_lost:
            print(f"authstate: {self._child.describe_end(status)} before it answered `initialize`", file=sys.stderr)
        await self._close()
        return status

    async def _connect(self, stdin_fd: int, stdout_fd: int) -> None:
        incoming, outgoing = can_be_watched(stdin_fd, stdout_fd)
        from_child, to_child = can_be_watched(self._child.stdout_fd, self._child.stdin_fd)
        self._to_front_end = await open_writer(
            stdout_fd, self._front_end_full, self._front_end_is_deaf, watched=outgoing
        )
        self._to_child = await open_writer(
            self._child.stdin_fd, self._child_full, self._child_is_deaf, watched=to_child
        )
        self._front_end.peer.connect(self._to_front_end)
        self._account.peer.connect(self._to_child)
        self._child_reads.control(
            await open_reader(self._child.stdout_fd, self._from_child.feed, self._no_more_output, watched=from_child)
        )
        self._front_end_reads.control(
            await open_reader(stdin_fd, self._from_front_end.feed, self._no_more_input, watched=incoming)
        )

    async def _close(self) -> None:
        """End what is ours: a refresh token that is being spent is waited for, and what was said is written."""
        self._front_end_reads.stop("the end")
        self._front_end.peer.eof_received()
        await self._front_end.peer.drained(LOG_DELAY)
        await self._front_end.opening.closed()
        await self._account.close()
        await self._front_end.peer.drained(LOG_DELAY)
        self._front_end.peer.close()
        for task in self._tasks:
            task.cancel()
        self._log.flush()
        if self._to_front_end is not None:
            await self._to_front_end.finish(_LAST_WRITES)

    # The handshake (a `Door`)

    def knocked(self, params: Raw) -> None:
        """See `Door`."""
        self._gate.hold()
        self._front_end.introduced(params)

    def answered(self, accepted: bool) -> None:
        """See `Door`. The tokens are handed over before anything else reaches the child."""
        if accepted:
            self._front_end.accepted()
            self._spawn(self._hand_over())
        else:
            self._front_end.refused()
            self._gate.release()

    async def _hand_over(self) -> None:
        try:
            await self._front_end.opening.opened()
            await self._account.hand_over()
        except Exception as error:
            self._log.warn("no_account", f"the child goes without a login: {error}")
        finally:
            self._gate.release()

    # Ends

    def _no_more_input(self) -> None:
        """The front-end sends no more: once its last requests are answered, the child hears so."""
        self._from_front_end.finish()
        self._front_end.peer.eof_received()
        self._gate.finish(lambda: self._spawn(self._end_input()))
        asyncio.get_running_loop().call_later(_LAST_GATE, self._gate.force)

    async def _end_input(self) -> None:
        await self._front_end.peer.drained(_LAST_ANSWERS)
        if self._to_child is not None:
            await self._to_child.finish(_LAST_WRITES)
        self._child.close_stdin()

    def _no_more_output(self) -> None:
        self._from_child.finish()
        self._account.peer.eof_received()
        self._output_ended.set()

    def _child_is_deaf(self) -> None:
        """The child reads no more. What it still says counts."""
        self._account.peer.eof_received()

    def _front_end_is_deaf(self) -> None:
        """Nobody reads what we write: the child hears so as it would without us."""
        self._is_lost = True
        self._front_end.peer.close()
        self._child_reads.stop("nobody reads")
        self._output_ended.set()
        self._child.close_stdout()

    def _ended(self, status: int) -> None:
        if not self._status.done():
            self._status.set_result(status)

    # Small things

    def _write_to_child(self, data: bytes) -> None:
        if self._to_child is not None:
            self._to_child.write(data)

    def _write_to_front_end(self, data: bytes) -> None:
        if self._to_front_end is not None:
            self._to_front_end.write(data)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


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

    Returns its exit status, minus the signal's number after a signal. What anything else prints goes to stderr.

    Raises:
        OSError: standard input or output cannot be used.
    """
    sys.stdout = sys.stderr
    return await Wrapper(config, environment, child, settings).run(stdin_fd, stdout_fd)


def _retrieve(opening: "asyncio.Future[Any]") -> None:
    """Look at the outcome, so that nobody complains that nobody did: each request gets it."""
    if not opening.cancelled():
        opening.exception()


def _on_signals(loop: asyncio.AbstractEventLoop, forward: Callable[[int], None]) -> None:
    """Hand the signals that end a process on to the child; its end is ours. One that is ignored stays so (nohup)."""
    for name in FORWARDED:
        number = getattr(signal, name, None)
        if number is None or signal.getsignal(number) is signal.SIG_IGN:
            continue
        try:
            loop.add_signal_handler(number, forward, int(number))
        except (NotImplementedError, RuntimeError, ValueError):
            continue
