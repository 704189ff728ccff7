"""A thousand logins in a row, each started and cancelled, over real sockets: they leave nothing behind."""

import asyncio
import gc
import os
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from support.login_harness import open_files, until
from support.ports import private_port

from authstate.adapters.oauth.browser_login import BrowserLogin, start_browser_login
from authstate.adapters.oauth.device_login import DeviceLogin, start_device_login
from authstate.adapters.oauth.issuer import Issuer
from authstate.adapters.oauth.redirect.port import open_port
from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.engine.engine import AuthEngine
from authstate.engine.model.events import Event, LoginCompleted
from authstate.testing import FakeAuthority, LoopbackIssuer

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="it counts descriptors")
LOGINS = 1000


Start = Callable[[AuthEngine, Issuer], Awaitable[BrowserLogin | DeviceLogin]]


async def counted(start: Start, rounds: int, home: Path, issuer: Issuer) -> list[str | None]:
    """Start and cancel so many logins in a home. Returns what the engine told of each.

    Raises TimeoutError: tasks, descriptors, threads, files or objects were left.
    """
    events: list[Event] = []
    async with AuthEngine(AuthJsonStore(home), FakeAuthority()) as engine:
        engine.subscribe(events.append)

        async def play(count: int) -> None:
            for _ in range(count):
                login = await start(engine, issuer)
                assert await engine.cancel_login(login.attempt.login_id)
                await login.closed()

        await play(5)  # what is loaded once is loaded now
        before = held(home)
        await play(rounds)
        await until(lambda: leaves_nothing(home, before))
    return [event.error for event in events if isinstance(event, LoginCompleted)]


def leaves_nothing(home: Path, before: dict[str, Any]) -> bool:
    """Whether this process holds no more of anything. A thread or a descriptor of another test may have ended."""
    return all(found <= before[name] for name, found in held(home).items())


def held(home: Path) -> dict[str, Any]:
    """What this process holds that a login could have left."""
    gc.collect()
    alive = [thing for thing in gc.get_objects() if isinstance(thing, BrowserLogin | DeviceLogin)]
    return {
        "tasks": len(asyncio.all_tasks()),
        "descriptors": open_files(),
        "threads": threading.active_count(),
        "files": frozenset(os.listdir(home)),
        "logins": len(alive),
    }


async def test_browser_logins_leave_nothing(tmp_path: Path, loopback: LoopbackIssuer) -> None:
    port = private_port()

    async def start(engine: AuthEngine, issuer: Issuer) -> BrowserLogin:
        return await start_browser_login(engine, issuer, ports=(port,))

    told = await counted(start, LOGINS, tmp_path, Issuer(loopback.url))
    assert told == ["the login was cancelled"] * (LOGINS + 5)
    with await open_port((port,)):
        pass


async def test_device_logins_leave_nothing(tmp_path: Path, loopback: LoopbackIssuer) -> None:
    told = await counted(start_device_login, LOGINS, tmp_path, Issuer(loopback.url))
    assert told == ["the login was cancelled"] * (LOGINS + 5)
