"""A login without a refresh token, as people give it to CI jobs: used until it expires, and never sent anywhere."""

import httpx
import pytest

from authstate.adapters.httpx_auth import EngineAuth
from authstate.engine.engine import AuthEngine
from authstate.engine.model.credentials import ApiKey, ChatgptTokens
from authstate.engine.model.errors import PermanentRefreshError, RefreshDeadReason
from authstate.engine.model.events import Event, RefreshFailed, StateChanged
from authstate.engine.model.states import AuthState
from authstate.testing import FakeAuthority, ManualClock, MemoryStore, make_tokens


class Job:
    """A CI job: an engine on a stored login without a refresh token."""

    def __init__(self, *, expires_in: float | None = 3600.0, last_refresh_ago: float = 0.0) -> None:
        self.clock = ManualClock()
        self.tokens = self.issued(expires_in, last_refresh_ago)
        self.store = MemoryStore(self.tokens)
        self.authority = FakeAuthority(clock=self.clock)
        self.engine = AuthEngine(self.store, self.authority, clock=self.clock)
        self.events: list[Event] = []
        self.engine.subscribe(self.events.append)

    def issued(self, expires_in: float | None = 3600.0, last_refresh_ago: float = 0.0) -> ChatgptTokens:
        now = self.clock.now() - last_refresh_ago
        return make_tokens(refresh_token="", expires_in=expires_in, now=now)

    async def assert_ended(self) -> None:
        """Whoever acts is told what happened and what helps, and nothing is sent. Raises AssertionError."""
        for act in (self.engine.authorization, self.engine.refresh):
            with pytest.raises(PermanentRefreshError, match=r"no refresh token .*authstate login") as caught:
                await act()
            assert caught.value.reason is RefreshDeadReason.MISSING
        assert self.engine.session.state is AuthState.REFRESH_DEAD
        assert self.engine.session.failure is not None
        assert self.authority.sent == []


async def test_the_access_token_is_used_to_its_last_second_without_a_refresh() -> None:
    job = Job()
    async with job.engine as engine:
        loads = job.store.loads
        job.clock.advance(3599)
        assert (await engine.authorization()).token == job.tokens.access_token
        assert (await engine.check()).state is AuthState.CHATGPT
        assert job.store.loads == loads
        job.clock.advance(1)
        await job.assert_ended()


async def test_it_ends_once_and_is_not_told_again_and_again() -> None:
    job = Job(expires_in=-1)
    async with job.engine as engine:
        failure = (await engine.check()).failure
        assert failure is not None and failure.on_arrival
        for _ in range(5):
            await job.assert_ended()
    assert sum(isinstance(event, RefreshFailed) for event in job.events) == 1
    assert sum(isinstance(event, StateChanged) for event in job.events) == 2


@pytest.mark.parametrize("last_refresh_ago", [0.0, 30 * 86_400.0])
async def test_an_opaque_access_token_is_used_however_old_it_is(last_refresh_ago: float) -> None:
    job = Job(expires_in=None, last_refresh_ago=last_refresh_ago)
    async with job.engine as engine:
        assert (await engine.authorization()).token == job.tokens.access_token
        assert engine.session.state is AuthState.CHATGPT


async def test_a_refresh_that_was_asked_for_leaves_a_good_access_token_in_use() -> None:
    job = Job()
    async with job.engine as engine:
        with pytest.raises(PermanentRefreshError, match="no refresh token"):
            await engine.refresh()
        assert engine.session.state is AuthState.CHATGPT
        assert (await engine.authorization()).token == job.tokens.access_token
    assert [event.permanent for event in job.events if isinstance(event, RefreshFailed)] == [False]
    assert job.authority.sent == []


async def test_a_401_is_answered_with_the_reason_and_the_token_is_sent_once() -> None:
    job, seen = Job(), []

    def refuse(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(401)

    client = httpx.AsyncClient(transport=httpx.MockTransport(refuse), auth=EngineAuth(job.engine), timeout=60.0)
    async with job.engine, client:
        with pytest.raises(PermanentRefreshError, match=r"the backend refused it, and this sign-in has no refresh"):
            await client.get("https://backend.example/")
    assert (len(seen), job.authority.sent) == (1, [])


@pytest.mark.parametrize("newer_can_refresh", [True, False])
async def test_newer_tokens_that_somebody_stored_are_taken(newer_can_refresh: bool) -> None:
    job = Job()
    async with job.engine as engine:
        job.clock.advance(3600)
        newer = make_tokens(now=job.clock.now()) if newer_can_refresh else job.issued()
        job.store.credentials = newer
        assert (await engine.authorization()).token == newer.access_token
        assert engine.session.state is AuthState.CHATGPT


async def test_it_needs_no_lock_to_find_out_that_it_ended() -> None:
    """A CI job may be given a home that it cannot write."""
    job = Job(expires_in=-1)
    async with job.engine, job.store.locked():
        await job.assert_ended()
    assert job.store.saves == 0


@pytest.mark.parametrize("replaces", [True, False])
async def test_nothing_is_revoked_when_it_is_replaced_or_signed_out(replaces: bool) -> None:
    job = Job()
    async with job.engine as engine:
        await (engine.use_api_key(ApiKey.parse("sk-1")) if replaces else engine.log_out())
    assert job.authority.revoked == []
    assert job.store.credentials == (ApiKey.parse("sk-1") if replaces else None)


async def test_another_account_in_the_store_is_told_as_such() -> None:
    job = Job(expires_in=-1)
    async with job.engine as engine:
        job.store.credentials = make_tokens(account_id="org-2")
        with pytest.raises(PermanentRefreshError) as caught:
            await engine.refresh()
    assert caught.value.reason is RefreshDeadReason.ACCOUNT_CHANGED
