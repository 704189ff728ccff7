"""How long a request waits for its token."""

import asyncio
from typing import Any, NoReturn

import pytest
from anyio.from_thread import start_blocking_portal
from support.http_libraries import PortalEngine, each_library
from support.numbered_tokens import URL, Backend, NumberedEngine

from authstate.adapters.httpx_auth import EngineAuth, SyncEngineAuth
from authstate.engine.engine import AuthEngine
from authstate.engine.model.session import Authorization
from authstate.testing import FakeAuthority, MemoryStore, make_tokens

BRIEFLY = {"connect": None, "read": None, "write": None, "pool": 0.01}


@each_library
async def test_a_wait_for_a_token_ends_with_the_pool_timeout_and_the_refresh_goes_on(library: Any) -> None:
    tokens = make_tokens(expires_in=-60)
    store, authority = MemoryStore(tokens), FakeAuthority(tokens)
    authority.hold()
    seen = []
    transport = library.MockTransport(lambda request: (seen.append(request), library.Response(200))[1])
    engine = AuthEngine(store, authority)
    async with (
        engine,
        library.AsyncClient(transport=transport, auth=EngineAuth(engine), timeout=library.Timeout(**BRIEFLY)) as client,
    ):
        with pytest.raises(library.PoolTimeout, match=r"no token came within 0\.01 seconds") as error:
            await client.get(URL)
        assert error.value.request.url == URL and seen == []
        authority.release()
        assert (await client.get(URL, timeout=None)).status_code == 200
    assert len(authority.sent) == 1 and store.saves == 1


@each_library
async def test_a_wait_for_a_newer_token_ends_with_the_pool_timeout_too(library: Any) -> None:
    class Slow(NumberedEngine):
        async def recover(self, refused: Authorization) -> Authorization:
            self.recoveries += 1
            await asyncio.Event().wait()
            raise AssertionError("nobody ends the wait")

    engine = Slow()
    async with Backend(library, accepts=2).client(EngineAuth(engine)) as client:
        with pytest.raises(library.PoolTimeout):
            await client.get(URL, timeout=library.Timeout(**BRIEFLY))
    assert engine.recoveries == 1


@each_library
async def test_a_timeout_of_the_engine_itself_is_not_taken_for_that_of_the_client(library: Any) -> None:
    class Late(NumberedEngine):
        async def authorization(self) -> NoReturn:
            raise TimeoutError("of the engine")

    async with Backend(library).client(EngineAuth(Late())) as client:
        with pytest.raises(TimeoutError, match="of the engine"):
            await client.get(URL)


@each_library
async def test_a_client_without_a_timeout_waits_as_long_as_the_engine(library: Any) -> None:
    tokens = make_tokens(expires_in=-60)
    authority = FakeAuthority(tokens)
    authority.hold()
    async with AuthEngine(MemoryStore(tokens), authority) as engine:
        transport = library.MockTransport(lambda request: library.Response(200))
        async with library.AsyncClient(transport=transport, auth=EngineAuth(engine), timeout=None) as client:
            asking = asyncio.create_task(client.get(URL))
            await authority.asked()
            authority.release()
            assert (await asking).status_code == 200


@each_library
def test_a_thread_waits_no_longer_than_its_pool_timeout(library: Any) -> None:
    tokens = make_tokens(expires_in=-60)
    store, authority = MemoryStore(tokens), FakeAuthority(tokens)
    transport = library.MockTransport(lambda request: library.Response(200))
    engine = AuthEngine(store, authority)
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(engine):
        portal.call(authority.hold)
        with library.Client(
            transport=transport, auth=SyncEngineAuth(PortalEngine(engine, portal)), timeout=library.Timeout(**BRIEFLY)
        ) as client:
            with pytest.raises(library.PoolTimeout, match="no token came"):
                client.get(URL)
            portal.call(authority.release)
            assert client.get(URL, timeout=None).status_code == 200
    assert store.saves == 1
