"""An event loop in a thread of its own, which other threads call.

Theory of operation. The thread runs a `BlockingPortal` of anyio. It is a daemon thread, so the interpreter exits
without it. (The generator of anyio's `start_blocking_portal` would wait for ever then.) A lock keeps a call from
entering a portal that is being stopped, because nobody would answer it. After a fork, the child has the objects of its
parent, but not the thread: the hook of `os.register_at_fork` marks them, so that the child learns of it.
"""

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from functools import partial
from typing import Any, ParamSpec, TypeVar
from weakref import WeakSet

from anyio.from_thread import BlockingPortal

from authstate.engine.model.errors import WrongEventLoop

P = ParamSpec("P")
T = TypeVar("T")


class LoopEnded(Exception):
    """The event loop is not running: it was not started, or it was stopped, perhaps while the call waited."""


class LoopThread:
    """Runs an event loop in a daemon thread from `start` to `stop`. Any thread may call all methods."""

    def __init__(self) -> None:
        self.was_forked: bool = False
        """This process is a fork of the one that the event loop runs in."""
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._portal: BlockingPortal | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        _threads.add(self)

    @property
    def is_running(self) -> bool:
        """Whether the event loop takes calls."""
        return self._portal is not None

    @property
    def is_current(self) -> bool:
        """Whether the caller is in this thread."""
        return self._thread is threading.current_thread()

    def start(self) -> bool:
        """Start the thread and its event loop. Returns whether that was necessary."""
        self.ensure_may_wait()
        with self._lock:
            if self._portal is not None:
                return False
            ready: Future[tuple[BlockingPortal, asyncio.AbstractEventLoop]] = Future()
            self._thread = threading.Thread(target=_run, args=(ready,), daemon=True, name="authstate-engine")
            self._thread.start()
            self._portal, self._loop = ready.result()
            return True

    def call(self, function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a coroutine function in the event loop, and return its result.

        Raises:
            LoopEnded: the event loop does not run, or was stopped before the function ended.
            WrongEventLoop: the caller is in the thread of the event loop, or in a fork of its process.

        An exception such as KeyboardInterrupt that ends the wait cancels the coroutine.
        """
        self.ensure_may_wait()
        with self._lock:
            if self._portal is None:
                raise LoopEnded
            future = self._portal.start_task_soon(partial(function, *args, **kwargs))
        try:
            return future.result()
        except CancelledError:
            raise LoopEnded from None
        except BaseException:
            future.cancel()
            raise

    def stop(self) -> None:
        """Cancel the calls that still wait, and end the thread. May be called again."""
        self.ensure_may_wait()
        with self._lock:
            thread, portal = self._thread, self._portal
            self._portal = None
        if thread is not None and portal is not None:
            portal.call(portal.stop, True)
            thread.join()

    def call_at_exit(self, work: Callable[[], Coroutine[Any, Any, object]], seconds: float) -> None:
        """Call a function while the interpreter exits, and wait for it at most so many seconds. Raises nothing."""
        loop = self._loop if self._portal is not None and not self.was_forked else None
        if loop is not None:
            with suppress(Exception):
                asyncio.run_coroutine_threadsafe(work(), loop).result(seconds)

    def ensure_may_wait(self) -> None:
        """Raise WrongEventLoop if waiting for the event loop would never end here."""
        if self.was_forked:
            raise WrongEventLoop(
                "this process is a fork of the one that the engine runs in, and a fork has no other threads: open an "
                "engine after the fork"
            )
        if self.is_current:
            raise WrongEventLoop(
                "this is the thread of the engine's event loop, so a call that waits for it would never end: a "
                "listener must leave such a call to another thread"
            )

    def note_fork(self) -> None:
        """This process is a new child. Another thread of the parent may have held the lock."""
        if self._portal is not None:
            self.was_forked = True
        self._lock = threading.Lock()


def _run(ready: "Future[tuple[BlockingPortal, asyncio.AbstractEventLoop]]") -> None:
    async def serve() -> None:
        async with BlockingPortal() as portal:
            ready.set_result((portal, asyncio.get_running_loop()))
            await portal.sleep_until_stopped()

    try:
        asyncio.run(serve())
    except BaseException as fault:
        if ready.done():
            raise
        ready.set_exception(fault)


_threads: WeakSet[LoopThread] = WeakSet()


def _note_fork() -> None:
    for thread in tuple(_threads):
        thread.note_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)
