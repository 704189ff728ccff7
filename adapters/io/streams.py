"""Two file descriptors as a reader and a writer that never block the event loop.

The loop watches pipes and sockets. Everything else (a file, a terminal, and all of it on Windows) is read and written
by a thread each, because the loop cannot watch it, or because making it non-blocking would change it for the other
processes that share it.
"""

import asyncio
import os
import stat
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Protocol, cast

from authstate.adapters.confidential import without_frames

_CHUNK = 64 * 1024
"""Bytes of one read: what a pipe holds. For a larger read the C library may map new memory and return it each time.
asyncio's own 256 KiB doubled the time of a message.
"""
_HIGH = 1024 * 1024  # unwritten bytes above which the peer stops reading
_LOW = 256 * 1024


class ByteReader(Protocol):
    """Reads a descriptor."""

    def pause_reading(self) -> None:
        """Feed no more until `resume_reading`."""

    def resume_reading(self) -> None:
        """Go on."""


class ByteWriter(Protocol):
    """Writes to a descriptor, in order."""

    def write(self, data: bytes) -> None:
        """Write, or hold until it can be written. Does nothing once the other side is gone."""

    async def finish(self, timeout: float) -> None:
        """Write what is held, at most so many seconds, and stop."""


class Flow(Protocol):
    """What a writer tells when it holds too much: a `Peer`."""

    def pause_writing(self) -> None:
        """The writer holds too much."""

    def resume_writing(self) -> None:
        """The writer has room again."""


async def open_reader(
    fd: int, feed: Callable[[bytes], None], ended: Callable[[], None], *, watched: bool
) -> ByteReader:
    """Start to read. `ended` is called once, at the end of the stream or when it breaks.

    Raises:
        OSError: there is no such descriptor.
    """
    loop = asyncio.get_running_loop()
    if not watched:
        return _ThreadReader(loop, fd, feed, ended)
    pipe = os.fdopen(fd, "rb", buffering=0, closefd=False)
    transport, _ = await loop.connect_read_pipe(lambda: _Incoming(feed, ended), pipe)
    cast(_Bounded, transport).max_size = _CHUNK
    return transport


async def open_writer(fd: int, flow: Flow, lost: Callable[[], None], *, watched: bool) -> ByteWriter:
    """Start to write. `lost` is called when nobody can read any more.

    Raises:
        OSError: there is no such descriptor.
    """
    loop = asyncio.get_running_loop()
    if not watched:
        return _ThreadWriter(loop, fd, flow, lost)
    pipe = os.fdopen(fd, "wb", buffering=0, closefd=False)
    _, outgoing = await loop.connect_write_pipe(lambda: _Outgoing(flow, lost), pipe)
    return outgoing


def can_be_watched(stdin_fd: int, stdout_fd: int) -> tuple[bool, bool]:
    """Whether the loop can watch each of the two. It cannot watch one socket for both: it would take incoming bytes
    for a sign that nobody reads the output.

    Raises:
        OSError: a descriptor is closed.
    """
    incoming, outgoing = os.fstat(stdin_fd), os.fstat(stdout_fd)
    if sys.platform == "win32" or (incoming.st_dev, incoming.st_ino) == (outgoing.st_dev, outgoing.st_ino):
        return False, False
    return _is_pipe(incoming.st_mode), _is_pipe(outgoing.st_mode)


def _is_pipe(mode: int) -> bool:
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _feed_alone(feed: Callable[[bytes], None], data: bytes) -> None:
    """Feed. Raise a fault without its frames, which hold the data.

    Raises:
        RuntimeError: it names the class of the fault, and where it happened.
    """
    try:
        feed(data)
        return
    except Exception as error:
        fault = without_frames(error)
    del data
    raise fault


class _Bounded(Protocol):
    """asyncio's read pipes, with an attribute that their type does not show."""

    max_size: int


class _Incoming(asyncio.Protocol):
    def __init__(self, feed: Callable[[bytes], None], ended: Callable[[], None]) -> None:
        self._feed = feed
        self._ended = ended

    def data_received(self, data: bytes) -> None:
        _feed_alone(self._feed, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended()


class _Outgoing(asyncio.BaseProtocol):
    """A `ByteWriter` over a pipe that the loop watches."""

    def __init__(self, flow: Flow, lost: Callable[[], None]) -> None:
        self._flow = flow
        self._lost = lost
        self._gone = asyncio.Event()
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.set_write_buffer_limits(_HIGH, _LOW)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone.set()
        self._lost()

    def pause_writing(self) -> None:
        self._flow.pause_writing()

    def resume_writing(self) -> None:
        self._flow.resume_writing()

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    async def finish(self, timeout: float) -> None:
        if self._transport is None:
            return
        self._transport.close()
        try:
            await asyncio.wait_for(self._gone.wait(), timeout)
        except TimeoutError:
            self._transport.abort()


class _ThreadReader:
    """Reads in a thread that dies with the process. At most one chunk is on its way to the loop."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, fd: int, feed: Callable[[bytes], None], ended: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._fd = fd
        self._feed = feed
        self._ended = ended
        self._paused = False
        self._data = (
            b""  # what is on its way; not an argument, because asyncio shows the arguments of a call that fails
        )
        self._open = threading.Event()
        self._open.set()
        threading.Thread(target=self._run, name="authstate-stdin", daemon=True).start()

    def pause_reading(self) -> None:
        self._paused = True
        self._open.clear()

    def resume_reading(self) -> None:
        self._paused = False
        self._open.set()

    def _run(self) -> None:
        is_open = True
        while is_open:
            self._open.wait()
            try:
                self._data = os.read(self._fd, _CHUNK)
            except OSError:
                self._data = b""
            is_open = bool(self._data)
            self._open.clear()
            try:
                self._loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:
                return

    def _deliver(self) -> None:
        data, self._data = self._data, b""
        if not data:
            self._ended()
            return
        _feed_alone(self._feed, data)
        if not self._paused:
            self._open.set()


class _ThreadWriter:
    """Writes in a thread that dies with the process."""

    def __init__(self, loop: asyncio.AbstractEventLoop, fd: int, flow: Flow, lost: Callable[[], None]) -> None:
        self._loop = loop
        self._fd = fd
        self._flow = flow
        self._lost = lost
        self._held = 0
        self._paused = False
        self._queue: SimpleQueue[bytes | None] = SimpleQueue()
        self._done = asyncio.Event()
        threading.Thread(target=self._run, name="authstate-stdout", daemon=True).start()

    def write(self, data: bytes) -> None:
        if self._done.is_set():
            return
        self._held += len(data)
        self._queue.put(data)
        if self._held > _HIGH and not self._paused:
            self._paused = True
            self._flow.pause_writing()

    async def finish(self, timeout: float) -> None:
        self._queue.put(None)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._done.wait(), timeout)

    def _run(self) -> None:
        broken = False
        while (data := self._queue.get()) is not None and not broken:
            rest = memoryview(data)
            try:
                while rest:
                    rest = rest[os.write(self._fd, rest) :]
            except OSError:
                broken = True
            else:
                self._call_in_loop(self._wrote, len(data))
        self._call_in_loop(self._end, broken)

    def _call_in_loop(self, on_event: Callable[[int], None], what: int) -> None:
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(on_event, what)

    def _wrote(self, size: int) -> None:
        self._held -= size
        if self._paused and self._held <= _LOW:
            self._paused = False
            self._flow.resume_writing()

    def _end(self, broken: int) -> None:
        self._done.set()
        if broken:
            self._lost()
