"""What `wrap` and a link show of the tokens that they hand to a child: in tasks, faults and warnings, on any pipe."""

import asyncio
import os
from typing import Any

import pytest
from support.child_in_memory import Child, World
from support.leaks import CANARY, assert_clean, assert_hidden

from authstate.adapters.child.token_sync import TokenSync
from authstate.adapters.io.streams import open_reader
from authstate.adapters.jsonrpc.peer import Peer, RemoteError
from authstate.engine.model.credentials import ApiKey, ChatgptTokens
from authstate.engine.model.errors import IssuerUnavailable, RefreshDeadReason
from authstate.engine.model.secret import Secret
from authstate.testing import make_jwt

CLAIMS = {"https://api.openai.com/auth": {"chatgpt_account_id": "org-1"}, "email": "person@example.com"}
NOW = 1_800_000_000


def tokens(expires_in: int = 3600) -> ChatgptTokens:
    text = make_jwt(**CLAIMS, exp=NOW + expires_in) + CANARY
    return ChatgptTokens.read(id_token=text, access_token=text, refresh_token=f"rt-{CANARY}-{expires_in}")


@pytest.fixture
async def tasks() -> list[asyncio.Task[Any]]:
    """Every task that the test makes."""
    made: list[asyncio.Task[Any]] = []

    def make(loop: asyncio.AbstractEventLoop, work: Any, **more: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, **more)
        made.append(task)
        return task

    asyncio.get_running_loop().set_task_factory(make)
    return made


def assert_tasks_are_clean(tasks: list[asyncio.Task[Any]]) -> None:
    """Their reprs are in asyncio's own logs: the result of a slow one, the error of one that nobody waits for."""
    ours = [task for task in tasks if "Child." not in repr(task)]  # the child in this process is a test's
    assert len(ours) >= 5
    for task in ours:
        assert CANARY not in repr(task)
        if task.done() and not task.cancelled() and (error := task.exception()) is not None:
            assert_clean(error)


async def test_the_tasks_of_a_client(tasks: list[asyncio.Task[Any]], faults: list[dict[str, Any]]) -> None:
    world, child = World(tokens()), Child("test/0.93.0 (Linux)")
    told: list[str] = []
    async with world.engine, world.child(child) as (link, _):
        token_sync: TokenSync = link._token_sync
        token_sync._updates._warn = lambda code, message: told.append(message)
        await child.ask()
        world.authority.fail_next(IssuerUnavailable("503"), 9)
        world.clock.advance(20)
        child.refuse["account/login/start"] = f"I do not like {CANARY}"
        await world.engine.use_api_key(ApiKey(Secret(f"sk-{CANARY}")))
        await child.until(lambda: bool(told))
        child.refuse.clear()
        child.die()
        await link.wait_closed()
        for thing in (link, token_sync, world.engine):
            assert_hidden(thing)
    assert told
    assert CANARY not in "".join(told)
    assert faults == []
    assert_tasks_are_clean(tasks)


async def test_a_refresh_request_that_is_refused(tasks: list[asyncio.Task[Any]]) -> None:
    world, child = World(tokens()), Child("test/0.169.0 (Linux)")
    async with world.engine, world.child(child) as (link, _):
        world.authority.kill(RefreshDeadReason.REVOKED)
        with pytest.raises(RemoteError) as refused:
            await child.ask()
        assert "revoked" in refused.value.message
        assert CANARY not in refused.value.message
        assert_hidden(link._token_sync)
    assert_tasks_are_clean(tasks)


async def test_a_fault_while_tokens_are_sent(faults: list[dict[str, Any]]) -> None:
    """A bug escapes from the task that sends tokens: the loop reports it without a token."""

    class Broken:
        def write(self, data: bytes) -> None:
            if b"accessToken" in data:
                raise RuntimeError("a bug in a writer")

    world = World(tokens())
    async with world.engine:
        peer = Peer(lambda method, params: None)
        peer.connect(Broken())
        token_sync = TokenSync(world.engine, peer, warn=lambda code, message: None, clock=world.clock)
        beginning = asyncio.create_task(token_sync.begin())
        await world.clock.elapse(60)  # a child that does not tell which login it has
        await beginning
        following = token_sync._updates._task
        assert following is not None
        error = following.exception()
        assert isinstance(error, RuntimeError)
        assert CANARY not in repr(following)
        assert_clean(error)
        token_sync.close()
        peer.close()


@pytest.mark.parametrize("watched", [True, False])
async def test_a_fault_while_a_line_is_read(faults: list[dict[str, Any]], watched: bool) -> None:
    """asyncio shows the call that failed, with its arguments."""
    incoming, outgoing = os.pipe()

    def fail(data: bytes) -> None:
        raise ValueError(f"a bug with {len(data)} bytes")

    await open_reader(incoming, fail, lambda: None, watched=watched)
    os.write(outgoing, f'{{"apiKey":"sk-1-{CANARY}"}}\n'.encode())
    async with asyncio.timeout(60):
        while not faults:  # noqa: ASYNC110 - what is looked at has no event
            await asyncio.sleep(0.001)
    os.close(outgoing)
    for context in faults:
        assert CANARY not in str(context)
    await asyncio.sleep(0)
    if not watched:
        os.close(incoming)
