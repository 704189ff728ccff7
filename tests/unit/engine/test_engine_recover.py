"""`AuthEngine.recover` answers with no token that has expired, or that the backend refused before."""

import msgspec
import pytest

from authstate.engine.engine import AuthEngine
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.errors import PermanentRefreshError, RefreshDeadReason
from authstate.engine.model.session import Authorization
from authstate.testing import FakeAuthority, ManualClock, MemoryStore, make_tokens


class Windows:
    """Two engines on one store, with tokens that live an hour."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.authority = FakeAuthority(clock=self.clock)
        stored = make_tokens(now=self.clock.now())
        self.authority.accept(stored)
        self.store = MemoryStore(stored)
        self.one, self.other = (AuthEngine(self.store, self.authority, clock=self.clock) for _ in range(2))

    def is_expired(self, answer: Authorization) -> bool:
        session = self.one.session
        assert isinstance(session.credentials, ChatgptTokens) and session.credentials.access_token == answer.token
        return (session.credentials.expires_at or 0.0) <= self.clock.now()


async def test_what_another_process_stored_long_ago_is_refreshed_again() -> None:
    world = Windows()
    async with world.one as one, world.other as other:
        held = await one.authorization()
        await other.refresh()
        world.clock.advance(7200)
        answer = await one.recover(held)
        assert answer.token not in (held.token, Authorization.of(other.session).token)
        assert not world.is_expired(answer)
        assert len(world.authority.sent) == 2


async def test_an_older_refused_token_is_not_answered_with_a_current_one_that_expired_since() -> None:
    world = Windows()
    async with world.one as one:
        held = await one.authorization()
        await one.refresh()
        world.clock.advance(7200)
        answer = await one.recover(held)
        assert not world.is_expired(answer)
        assert len(world.authority.sent) == 2


async def test_what_the_backend_refused_is_not_adopted_again_as_an_answer() -> None:
    world = Windows()
    async with world.one as one, world.other as other:
        first = await one.authorization()
        second = await one.recover(first)
        # Another program keeps the new refresh token beside the access token that was refused.
        stored = one.session.credentials
        assert isinstance(stored, ChatgptTokens)
        mixed = msgspec.structs.replace(stored, access_token=first.token, refresh_token=make_tokens().refresh_token)
        world.authority.accept(mixed)
        await other.complete_chatgpt_login(mixed)
        third = await one.recover(second)
        assert third.token not in (first.token, second.token)


async def test_an_older_refused_token_of_a_dead_login_that_expired_is_an_error() -> None:
    world = Windows()
    async with world.one as one:
        held = await one.authorization()
        await one.refresh()
        world.authority.kill(RefreshDeadReason.REVOKED)
        with pytest.raises(PermanentRefreshError):
            await one.refresh()
        world.clock.advance(7200)
        with pytest.raises(PermanentRefreshError):
            await one.recover(held)
        assert len(world.authority.sent) == 2, "a dead token is sent once"


async def test_tokens_that_keep_being_of_no_use_are_not_looked_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    world = Windows()
    async with world.one as one:
        monkeypatch.setattr(one._flows.scheduler, "is_usable", lambda: False)
        await one.recover(await one.authorization())
        assert len(world.authority.sent) == 3


async def test_new_tokens_that_look_expired_by_a_wrong_clock_are_the_answer() -> None:
    world = Windows()
    async with world.one as one:
        held = await one.authorization()
        world.authority.expires_in = -60
        answer = await one.recover(held)
        assert await one.recover(held) == answer
        assert len(world.authority.sent) == 1


async def test_new_tokens_that_expired_since_are_not_the_answer() -> None:
    """Tokens of 20 seconds, in two windows that were idle for 30: the neighbour's have expired, though they are new."""
    world = Windows()
    async with world.one as one, world.other as other:
        held = await one.authorization()
        world.authority.expires_in = 20
        await other.refresh()
        world.clock.advance(30)
        answer = await one.recover(held)
        assert not world.is_expired(answer)
        assert answer.token != Authorization.of(other.session).token
        world.clock.advance(30)
        again = await other.recover(Authorization.of(other.session))
        assert again.token != answer.token
        assert len(world.authority.sent) == 3


def test_tokens_tell_whether_they_looked_expired_at_once() -> None:
    world = Windows()
    stored = world.store.credentials
    assert isinstance(stored, ChatgptTokens)
    assert msgspec.structs.replace(stored, last_refresh=None).looked_expired_at_once
    assert not stored.looked_expired_at_once
    assert not msgspec.structs.replace(stored, expires_at=None).looked_expired_at_once
