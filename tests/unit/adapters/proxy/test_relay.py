"""The end of the front-end's input reaches a child that never answers, too."""

import asyncio
from pathlib import Path

import pytest

from authstate.adapters.app_server.deferred_log import DeferredLog
from authstate.adapters.app_server.lazy_account import AccountSetup
from authstate.adapters.config import Config, Environment, StoreMode
from authstate.adapters.proxy import relay
from authstate.adapters.proxy.relay import Relay

INITIALIZE = b'{"id":1,"method":"initialize","params":{"clientInfo":{"name":"x","version":"1"}}}\n'
BEHIND = b'{"id":2,"method":"thread/list"}\n'


class Written:
    """What one side was sent."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data


async def test_requests_that_wait_for_the_handshake_pass_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "LAST_GATE", 0.01)
    front_end, child = Written(), Written()
    running = Relay(
        AccountSetup(Config(store_mode=StoreMode.EPHEMERAL), Environment(home=Path("nowhere"))), DeferredLog()
    )
    running.connect(front_end, child)
    running.open()
    running.from_front_end(INITIALIZE + BEHIND)
    assert BEHIND not in child.data
    await asyncio.wait_for(running.front_end_ended(), 60)
    assert child.data.endswith(BEHIND)
    await running.close()
