"""Authorized requests: the header, the recovery from a 401, and where a token does not go."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, NoReturn

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from support.http_libraries import PortalEngine, each_library, mocked, mocked_sync

from authstate.adapters.httpx_auth import EngineAuth, SyncEngineAuth
from authstate.engine.engine import AuthEngine
from authstate.engine.model.account import Account
from authstate.engine.model.credentials import ApiKey, PersonalAccessToken
from authstate.engine.model.errors import (
    NotSignedIn,
    ParentUnavailable,
    PermanentRefreshError,
    RecoveryExhausted,
    RefreshDeadReason,
)
from authstate.engine.model.secret import Secret
from authstate.engine.model.session import Authorization
from authstate.testing import FakeAuthority, FakeParent, MemoryStore, make_external, make_tokens

URL = "https://backend.example/api"
BRIEFLY = {"connect": None, "read": None, "write": None, "pool": 0.01}


class Engine:
    """Hands out token 1, 2, 3, ...; a recovery moves on to the next one, unless it is told to fail."""

    def __init__(self, failure: Any = None, accounts: Any = ("org-1",)) -> None:
        self.generation = 1
        self.failure = failure
        self.accounts = accounts
        self.recoveries = 0

    def fresh_authorization(self) -> Authorization | None:
        return None

    async def authorization(self) -> Authorization:
        if isinstance(self.failure, NotSignedIn):
            raise self.failure
        account = self.accounts[min(self.generation, len(self.accounts)) - 1]
        return Authorization(Secret(f"token-{self.generation}"), account, self.generation)

    async def recover(self, refused: Authorization) -> Any:
        self.recoveries += 1
        if self.failure:
            raise self.failure
        if refused.generation == self.generation:
            self.generation += 1
        return await self.authorization()


class Backend:
    """Accepts one token and remembers what was sent."""

    def __init__(self, library: Any, accepts: int = 1, redirect: Any = None) -> None:
        self.library = library
        self.accepts = accepts
        self.redirect = redirect
        self.seen: list[Any] = []

    def __call__(self, request: Any) -> Any:
        self.seen.append((request.headers.get("authorization"), request.headers.get("chatgpt-account-id")))
        self.body = request.read()
        if self.redirect and request.url.host == "backend.example":
            return self.library.Response(307, headers={"location": self.redirect})
        accepted = request.headers.get("authorization") == f"Bearer token-{self.accepts}"
        return self.library.Response(200 if accepted else 401)

    def client(self, auth: Any, **options: Any) -> Any:
        return mocked(self.library, self, auth, **options)


@each_library
async def test_the_header_goes_on(library: Any) -> None:
    backend = Backend(library)
    async with backend.client(EngineAuth(Engine())) as client:
        assert (await client.get(URL)).status_code == 200
    assert backend.seen == [("Bearer token-1", "org-1")]


@each_library
async def test_an_account_of_the_caller_does_not_stay_on(library: Any) -> None:
    backend = Backend(library)
    async with backend.client(EngineAuth(Engine(accounts=(None,)))) as client:
        await client.get(URL, headers={"chatgpt-account-id": "org-other", "Authorization": "Bearer other"})
    assert backend.seen == [("Bearer token-1", None)]


@pytest.mark.parametrize("accepts", [2, 3])
@each_library
async def test_a_401_is_recovered_and_the_body_sent_again(library: Any, accepts: int) -> None:
    async def stream() -> AsyncIterator[Any]:
        yield b"one"
        yield b"two"

    backend, engine = Backend(library, accepts), Engine()
    async with backend.client(EngineAuth(engine)) as client:
        response = await client.post(URL, content=stream())
    assert response.status_code == 200
    assert backend.body == b"onetwo"
    assert engine.recoveries == accepts - 1


@each_library
async def test_it_gives_up_after_two_recoveries(library: Any) -> None:
    backend, engine = Backend(library, accepts=99), Engine()
    async with backend.client(EngineAuth(engine)) as client:
        assert (await client.get(URL)).status_code == 401
    assert len(backend.seen) == 3
    assert engine.recoveries == 2


@pytest.mark.parametrize("error", [PermanentRefreshError(RefreshDeadReason.REVOKED), ParentUnavailable("no answer")])
@each_library
async def test_a_reason_reaches_the_caller(library: Any, error: Any) -> None:
    async with Backend(library, accepts=2).client(EngineAuth(Engine(error))) as client:
        with pytest.raises(type(error)):
            await client.get(URL)


@each_library
async def test_without_a_recovery_the_401_is_the_answer(library: Any) -> None:
    backend = Backend(library, accepts=2)
    async with backend.client(EngineAuth(Engine(RecoveryExhausted("an API key")))) as client:
        assert (await client.get(URL)).status_code == 401
    assert len(backend.seen) == 1


@each_library
async def test_a_personal_access_token_is_sent_as_codex_sends_it_and_its_401_is_the_answer(library: Any) -> None:
    """With the workspace of its owner, unlike an API key: measured with 0.169.0 and 0.171.0."""
    authority = FakeAuthority()
    authority.owners["token-1"] = Account(account_id="org-1", user_id="user-1")
    async with AuthEngine(MemoryStore(PersonalAccessToken.read("token-1")), authority) as engine:
        for accepts, status in ((1, 200), (2, 401)):
            backend = Backend(library, accepts)
            async with backend.client(EngineAuth(engine)) as client:
                assert (await client.get(URL)).status_code == status
            assert backend.seen == [("Bearer token-1", "org-1")]
    assert authority.sent == []


@each_library
async def test_nobody_signed_in(library: Any) -> None:
    backend = Backend(library)
    async with backend.client(EngineAuth(Engine(NotSignedIn("sign in first")))) as client:
        with pytest.raises(NotSignedIn):
            await client.get(URL)
    assert backend.seen == []


@each_library
async def test_a_request_of_one_account_is_not_sent_again_as_another(library: Any) -> None:
    backend = Backend(library, accepts=2)
    async with backend.client(EngineAuth(Engine(accounts=("org-1", "org-2")))) as client:
        assert (await client.get(URL)).status_code == 401
    assert len(backend.seen) == 1


@pytest.mark.parametrize(
    ("before", "after", "status"),
    [
        (make_tokens(user_id="user-1"), make_tokens(user_id="user-2"), 401),
        (make_tokens(user_id="user-1"), make_tokens(user_id=None), 200),
        (make_tokens(account_id=None, user_id=None), ApiKey.parse("sk-1"), 401),
        (ApiKey.parse("sk-1"), ApiKey.parse("sk-2"), 401),
    ],
)
@each_library
async def test_who_signs_in_elsewhere_while_a_request_is_on_its_way_is_not_who_sends_it_again(
    library: Any, before: Any, after: Any, status: int
) -> None:
    """Two people of one workspace are two accounts, and nobody knows whose an API key is."""
    store, seen = MemoryStore(before), []

    async def answer(request: Any) -> Any:
        seen.append(request.headers["authorization"])
        if len(seen) > 1:
            return library.Response(200)
        store.credentials = after
        if not await engine.reload():
            await engine.follow()
        return library.Response(401)

    async with (
        AuthEngine(store, FakeAuthority()) as engine,
        library.AsyncClient(transport=library.MockTransport(answer), auth=EngineAuth(engine)) as client,
    ):
        assert (await client.get(URL)).status_code == status
    assert len(seen) == (1 if status == 401 else 2)


@pytest.mark.parametrize(
    "origin", ["https://backend.example:443/anything", "https://backend.example", "HTTPS://BACKEND.EXAMPLE/"]
)
@pytest.mark.parametrize("port", ["", ":443"])
@each_library
async def test_an_origin_may_name_the_default_port_or_leave_it_out(library: Any, origin: str, port: Any) -> None:
    backend = Backend(library)
    async with backend.client(EngineAuth(Engine(), origins=[origin])) as client:
        assert (await client.get(f"https://backend.example{port}/api")).status_code == 200


@pytest.mark.parametrize(
    "url",
    [
        "http://backend.example/api",
        "http://backend.example:443/api",
        "https://backend.example:80/",
        "https://backend.example:444/",
        "https://backend.example:8443/",
        "https://example/",
    ],
)
@each_library
async def test_other_origins_get_no_token(library: Any, url: str) -> None:
    backend = Backend(library)
    async with backend.client(EngineAuth(Engine(), origins=["https://backend.example:443/anything"])) as client:
        assert (await client.get(url)).status_code == 401
    assert backend.seen == [(None, None)]


@each_library
async def test_a_redirect_to_another_origin_takes_no_token_along_and_its_401_is_not_ours(library: Any) -> None:
    backend, engine = Backend(library, redirect="https://elsewhere.example/"), Engine()
    async with backend.client(EngineAuth(engine), follow_redirects=True) as client:
        assert (await client.get(URL)).status_code == 401
    assert [token for token, _ in backend.seen] == ["Bearer token-1", None]
    assert engine.recoveries == 0


@each_library
async def test_many_requests_share_it(library: Any) -> None:
    backend, engine = Backend(library, accepts=2), Engine()
    async with backend.client(EngineAuth(engine)) as client:
        responses = await asyncio.gather(*(client.get(URL) for _ in range(50)))
    assert {response.status_code for response in responses} == {200}
    assert engine.generation == 2


@each_library
async def test_a_thousand_requests_that_all_got_a_401_for_one_token_cost_one_refresh(library: Any) -> None:
    tokens = make_tokens()
    authority = FakeAuthority(tokens)
    refused, count, all_sent = f"Bearer {tokens.access_token.reveal()}", 0, asyncio.Event()

    async def answer(request: Any) -> Any:
        nonlocal count
        if request.headers["authorization"] != refused:
            return library.Response(200)
        count += 1
        if count == 1000:
            all_sent.set()
        await all_sent.wait()
        return library.Response(401)

    async with (
        AuthEngine(MemoryStore(tokens), authority) as engine,
        library.AsyncClient(transport=library.MockTransport(answer), auth=EngineAuth(engine)) as client,
    ):
        responses = await asyncio.gather(*(client.get(URL) for _ in range(1000)))
    assert [response.status_code for response in responses] == [200] * 1000
    assert count == 1000
    assert authority.sent == [tokens.refresh_token.reveal()]


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
    first = make_external()
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
    first, second = make_external(), make_external()
    world = Parent(library, second, make_external())
    async with world.engine:
        await world.engine.use_external_tokens(first)
        assert (await request_of(world, is_sync)).status_code == 401
    assert world.seen == [first.access_token.reveal(), second.access_token.reveal()]
    assert world.parent.count == 1


@each_library
async def test_a_parent_that_answers_with_another_workspace_changes_nothing(library: Any) -> None:
    first = make_external()
    world = Parent(library, make_external(account_id="org-2"))
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
    class Slow(Engine):
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
    class Late(Engine):
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
