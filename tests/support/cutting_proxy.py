"""A proxy between a client and a PostgreSQL server that cuts, half-closes or delays at a chosen moment."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Self

Cut = Callable[[bytes], bool]
"""Whether to cut the connection because of what the client sent."""


class CuttingProxy:
    """Forwards connections to a unix socket.

    Args:
        target: the path of the server's socket.
    """

    def __init__(self, target: str) -> None:
        self.port = 0
        self.cuts = 0
        """How many connections were cut."""
        self._target = target
        self._before: Cut = lambda data: False
        self._after: Cut = lambda data: False
        self._tasks: set[asyncio.Task[None]] = set()
        self._silent: Cut = lambda data: False
        self._half: Cut = lambda data: False
        self._kept_back = asyncio.Event()
        self._released = asyncio.Event()
        self._is_down = False

    def lose(self) -> None:
        """Cut every connection, and refuse new ones."""
        self._is_down = True
        for task in self._tasks:
            task.cancel()

    def restore(self) -> None:
        """Accept connections again."""
        self._is_down = False

    def cut_before(self, words: bytes, times: int = 1) -> None:
        """Cut a connection before the server gets a statement with these words, so many times."""
        self._before = self._counted(words, times)

    def cut_after(self, words: bytes, times: int = 1) -> None:
        """Cut a connection once the server has answered a statement with these words, and the client has not."""
        self._after = self._counted(words, times)

    def half_close_after(self, words: bytes, times: int = 1) -> None:
        """End the client's direction only, once the server has a statement with these words: it may still answer."""
        self._half = self._counted(words, times)

    def keep_answer_back(self, words: bytes, times: int = 1) -> None:
        """Keep everything back that the server says on a connection after a statement with these words."""
        self._silent = self._counted(words, times)

    async def until_kept_back(self) -> None:
        """Wait until the server has said something that is kept back."""
        await self._kept_back.wait()

    def release(self) -> None:
        """Let what was kept back go on."""
        self._released.set()

    def _counted(self, words: bytes, times: int) -> Cut:
        left = [times]

        def cut(data: bytes) -> bool:
            if words in data and left[0] > 0:
                left[0] -= 1
                self.cuts += 1
                return True
            return False

        return cut

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_down:
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        theirs, to_server = await asyncio.open_unix_connection(self._target)
        is_cut, is_silent = asyncio.Event(), asyncio.Event()
        answers = asyncio.create_task(self._answer(theirs, writer, is_cut, is_silent))
        with suppress(OSError, asyncio.CancelledError):
            while data := await reader.read(65536):
                if self._before(data):
                    break
                if self._silent(data):
                    is_silent.set()
                if self._after(data):
                    is_cut.set()
                    to_server.write(data)
                    await answers
                    break
                to_server.write(data)
                if self._half(data):
                    to_server.write_eof()
                    await answers
                    break
        answers.cancel()
        for one in (writer, to_server):
            one.transport.abort()

    async def _answer(
        self,
        theirs: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        is_cut: asyncio.Event,
        is_silent: asyncio.Event,
    ) -> None:
        """Forward what the server says, until it ends or the connection is cut."""
        with suppress(OSError):
            while data := await theirs.read(65536):
                if is_cut.is_set():
                    return  # the server has done it, and nobody hears of it
                if is_silent.is_set():
                    self._kept_back.set()
                    await self._released.wait()
                writer.write(data)
        with suppress(OSError):
            await writer.drain()
        writer.close()
