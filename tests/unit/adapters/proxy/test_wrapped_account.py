"""The account of a wrapped child, when the child ends early."""

import asyncio
from types import SimpleNamespace
from typing import Any

from support.child_in_memory import World, tokens

from authstate.adapters.app_server.connected_client import ConnectedClient
from authstate.adapters.app_server.deferred_log import DeferredLog
from authstate.adapters.app_server.lazy_account import AccountSetup, LazyAccount, OpenAccount
from authstate.adapters.config import Config
from authstate.adapters.jsonrpc.peer import Peer
from authstate.adapters.proxy.flow_control import Endpoint, Gate
from authstate.adapters.proxy.wrapped_account import ChildConnection, WrappedAccount


async def test_nobody_follows_other_windows_for_a_child_that_ended_before_its_login_was_refreshed() -> None:
    world = World(tokens(expires_in=-60))
    unused: Any = SimpleNamespace()
    client = ConnectedClient(Peer(lambda method, params: None))
    child = ChildConnection("ours-", endpoint := Endpoint(), Gate(endpoint.write, endpoint.reads))
    account = WrappedAccount(AccountSetup(unused, unused), client, DeferredLog(), child)
    await world.engine.start()
    account.login = Opened(world, account)
    world.authority.hold()
    begun = asyncio.ensure_future(account.start_sync())
    await world.authority.asked()
    ended = asyncio.ensure_future(account.close())
    await asyncio.sleep(0)
    world.authority.release()
    await asyncio.gather(begun, ended)
    assert account.login._background is None


class Opened(LazyAccount):
    """A login that brings the engine of a world."""

    def __init__(self, world: World, account: WrappedAccount) -> None:
        unused: Any = SimpleNamespace()
        super().__init__(AccountSetup(Config(), unused), account._client, DeferredLog(), on_open=account._on_open)
        self._world = world

    async def _open(self) -> OpenAccount:
        async def closed() -> None:
            return None

        logins: Any = SimpleNamespace(closed=closed)
        api: Any = None
        return OpenAccount(self._world.engine, api, logins)
