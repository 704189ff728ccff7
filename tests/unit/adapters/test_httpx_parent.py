"""Requests with the tokens of a parent application."""

import asyncio
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal
from support.http_libraries import PortalEngine, each_library, mocked, mocked_sync
from support.numbered_tokens import URL

from authstate.adapters.httpx_auth import EngineAuth, SyncEngineAuth
from authstate.engine.engine import AuthEngine
from authstate.engine.model.errors import (
    ParentUnavailable,
)
from authstate.testing import FakeAuthority, FakeParent, MemoryStore, make_external_tokens


class Parent:
    """An external login, its parent, and a backend that refuses every token."""

    def __init__(self, library: Any, *answers: Any) -> None:
        self.library = library
        self.parent = FakeParent(*answers)
        self.engine = AuthEngine(MemoryStore(), FakeAuthority(), parent=self.parent)
        self.seen: list[Any] = []

    def refuse(self, request: Any) -> Any:
        self.seen.append(request.headers["authorization"].removeprefix("Bearer "))
        return self.library.Response(401)


@pytest.mark.parametrize("is_sync", [False, True])
@each_library
async def test_a_refused_token_that_the_parent_sends_again_is_not_sent_to_the_backend_again(
    library: Any, is_sync: bool
) -> None:
    first = make_external_tokens()
    world = Parent(library, first)
    async with world.engine:
        await world.engine.use_external_tokens(first)
        with pytest.raises(ParentUnavailable, match="again"):
            await request_of(world, is_sync)
    assert world.seen == [first.access_token.reveal()]
    assert world.parent.count == 1


@pytest.mark.parametrize("is_sync", [False, True])
@each_library
async def test_the_parent_is_asked_once_for_a_request_and_its_refused_answer_is_the_end(
    library: Any, is_sync: bool
) -> None:
    first, second = make_external_tokens(), make_external_tokens()
    world = Parent(library, second, make_external_tokens())
    async with world.engine:
        await world.engine.use_external_tokens(first)
        assert (await request_of(world, is_sync)).status_code == 401
    assert world.seen == [first.access_token.reveal(), second.access_token.reveal()]
    assert world.parent.count == 1


@each_library
async def test_a_parent_that_answers_with_another_workspace_changes_nothing(library: Any) -> None:
    first = make_external_tokens()
    world = Parent(library, make_external_tokens(account_id="org-2"))
    async with world.engine:
        await world.engine.use_external_tokens(first)
        with pytest.raises(ParentUnavailable, match="org-2"):
            await request_of(world, False)
        assert world.engine.session.credentials is first
    assert world.seen == [first.access_token.reveal()]


async def request_of(world: Any, is_sync: bool) -> Any:
    if not is_sync:
        async with mocked(world.library, world.refuse, EngineAuth(world.engine)) as client:
            return await client.get(URL)

    def get(portal: BlockingPortal) -> Any:
        auth = SyncEngineAuth(PortalEngine(world.engine, portal))
        with mocked_sync(world.library, world.refuse, auth, timeout=None) as client:
            return client.get(URL)

    async with BlockingPortal() as portal:
        answers: tuple[Any, ...] = await asyncio.gather(asyncio.to_thread(get, portal), return_exceptions=True)
    if isinstance(answers[0], BaseException):
        raise answers[0]
    return answers[0]
