"""The account of a wrapped child, when the child ends early."""

import asyncio
from types import SimpleNamespace
from typing import Any

from support.linked_child import World, tokens

from authstate.adapters.child.token_sync import TokenSync
from authstate.adapters.proxy.wrapped_account import WrappedAccount


async def test_nobody_follows_other_windows_for_a_child_that_ended_before_its_login_was_refreshed() -> None:
    world = World(tokens(expires_in=-60))
    configured: Any = SimpleNamespace()
    account = WrappedAccount(configured, configured, {}, configured, "ours-", configured)
    opened: Any = SimpleNamespace(engine=world.engine, close=world.engine.close)
    account._account = opened
    account._token_sync = TokenSync(world.engine, account.peer, warn=lambda _code, _message: None)
    await world.engine.start()
    world.authority.hold()
    begun = asyncio.ensure_future(account.hand_over())
    await world.authority.asked()
    ended = asyncio.ensure_future(account.close())
    await asyncio.sleep(0)
    world.authority.release()
    await asyncio.gather(begun, ended)
    assert account._following is None
