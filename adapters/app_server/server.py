"""`authstate app-server`: the account API for one client on standard input and output.

It ends with the input (status 0, whatever is pending), when nobody reads the output (0), and on SIGTERM, SIGINT and
SIGHUP (128 plus the signal's number). It always waits for a refresh token that is being spent, so that the new one is
stored. Windows has SIGINT only.
"""

import asyncio
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from authstate.adapters.app_server.connected_client import ConnectedClient
from authstate.adapters.app_server.deferred_log import LOG_DELAY, DeferredLog
from authstate.adapters.app_server.first_answer import FirstAnswer
from authstate.adapters.app_server.handshake import Handshake
from authstate.adapters.app_server.lazy_account import AccountSetup, LazyAccount
from authstate.adapters.config import Config, Environment
from authstate.adapters.io.signals import ENDINGS, handle_signals
from authstate.adapters.io.streams import can_be_watched, open_reader, open_writer

_LAST_ANSWERS = 1.0  # seconds that requests which are under way get at the end of the input
_LAST_WRITES = 5.0  # seconds that a slow reader gets for what is answered already


async def serve(
    config: Config,
    environment: Environment,
    *,
    stdin_fd: int = 0,
    stdout_fd: int = 1,
    settings: Mapping[str, Any] | None = None,
    first: FirstAnswer = FirstAnswer(),  # noqa: B008 - it is immutable
    noted: Sequence[int] = (),
) -> int:
    """Serve one client and return the exit status. What anything else prints goes to stderr from here on.

    Args:
        config, environment: what was configured.
        stdin_fd, stdout_fd: where the protocol comes from and goes to. They are left open.
        settings: members of `RefreshSettings` that differ from the default.
        first: what `answer_first` did with these descriptors.
        noted: the signals that came before; they end the server.
    """
    sys.stdout = sys.stderr
    return await _Server(config, environment, settings or {}, first).run(stdin_fd, stdout_fd, noted)


class _Server:
    """One client, from its first byte to its last."""

    def __init__(
        self, config: Config, environment: Environment, settings: Mapping[str, Any], first: FirstAnswer
    ) -> None:
        self._log = DeferredLog()
        self._setup = AccountSetup(config, environment, settings)
        self._handshake = Handshake(environment.home, self._make_account)
        self._peer = self._handshake.peer
        self._end: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._has_lost_client = False
        self._first = first
        self._unread = first.unread

    async def run(self, stdin_fd: int, stdout_fd: int, noted: Sequence[int]) -> int:
        """Serve until the end; return the exit status."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._log.on_loop_exception)
        for number in handle_signals(ENDINGS, self._on_signal):
            _handle_signal_without_loop(number, self._on_signal)
        for number in noted:
            self._on_signal(number)
        try:
            read_watched, write_watched = can_be_watched(stdin_fd, stdout_fd)
            writer = await open_writer(stdout_fd, self._peer, self._client_stopped_reading, watched=write_watched)
            self._peer.connect(writer)
            if self._first.answered:
                writer.write(self._first.unsent)
                self._handshake.answered(self._first.answered)
            reader = await open_reader(stdin_fd, self._take, self._input_ended, watched=read_watched)
        except OSError as error:
            print(f"authstate: standard input or output cannot be used: {error.strerror}", file=sys.stderr)
            return 1
        self._peer.connect(writer, reader)
        self._take(b"")
        status = await self._end
        reader.pause_reading()
        if not self._has_lost_client and status == 0:
            await self._peer.drained(_LAST_ANSWERS)
        await self._handshake.account.close()
        if not self._has_lost_client:
            await self._peer.drained(LOG_DELAY)
        self._peer.close()
        self._log.flush()
        await writer.finish(_LAST_WRITES)
        return status

    def _take(self, data: bytes) -> None:
        """Take input, after that which was read before the loop ran."""
        unread, self._unread = self._unread, b""
        self._peer.data_received(unread + data)

    def _make_account(self, client: ConnectedClient) -> LazyAccount:
        account = LazyAccount(self._setup, client, self._log, on_open=lambda engine: account.follow())
        return account

    def _stop(self, status: int) -> None:
        if not self._end.done():
            self._end.set_result(status)

    def _on_signal(self, number: int) -> None:
        """A signal ends the server."""
        self._stop(128 + number)

    def _input_ended(self) -> None:
        self._take(b"")
        self._peer.eof_received()
        self._stop(0)

    def _client_stopped_reading(self) -> None:
        self._has_lost_client = True
        self._peer.close()
        self._stop(0)


def _handle_signal_without_loop(number: int, stop: Callable[[int], None]) -> None:
    """Handle a signal on Windows, between two instructions of the main thread."""
    loop = asyncio.get_running_loop()

    def on_event(received: int, frame: object) -> None:
        loop.call_soon_threadsafe(stop, received)

    with suppress(ValueError):  # not in the main thread: the embedder's signals are the embedder's
        signal.signal(number, on_event)
