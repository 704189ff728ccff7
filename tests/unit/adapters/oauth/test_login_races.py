"""A login that ends at any of its first moments: it gives everything back, and nothing fails behind its back."""

import asyncio
from typing import Any

import pytest
from support.login_harness import until

from authstate.adapters.oauth.browser_login import BrowserLogin, start_browser_login
from authstate.adapters.oauth.device_login import DeviceLogin, start_device_login
from authstate.adapters.oauth.issuer import Issuer
from authstate.engine.engine import AuthEngine
from authstate.engine.model.events import Event, LoginCompleted
from authstate.testing import FakeAuthority, LoopbackIssuer, MemoryStore


async def start(kind: str, engine: AuthEngine, issuer: Issuer) -> BrowserLogin | DeviceLogin:
    if kind == "browser":
        return await start_browser_login(engine, issuer, ports=(0,))
    return await start_device_login(engine, issuer)


@pytest.mark.parametrize("kind", ["browser", "device"])
async def test_a_login_that_is_cancelled_at_any_of_its_first_moments(kind: str) -> None:
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: faults.append(context))
    with LoopbackIssuer() as loopback:
        async with AuthEngine(MemoryStore(), FakeAuthority()) as engine:
            events: list[Event] = []
            engine.subscribe(events.append)
            before = len(asyncio.all_tasks())
            for moment in range(25):
                login = await start(kind, engine, Issuer(loopback.url, "app"))
                for _ in range(moment):
                    await asyncio.sleep(0)
                assert await engine.cancel_login(login.attempt.login_id)
                await login.closed()
                assert login._task.cancelled() or login._task.exception() is None, f"after {moment} steps"
                assert login.attempt.state == "cancelled"
            await until(lambda: len(asyncio.all_tasks()) <= before)
    assert [event.success for event in events if isinstance(event, LoginCompleted)] == [False] * 25
    assert faults == []
