"""Without a network: a request fails fast, and nobody waits for a token that is still good."""

import asyncio

import pytest

from authstate.engine.engine import AuthEngine
from authstate.engine.model.errors import IssuerUnavailable, PermanentRefreshError
from authstate.engine.model.refresh_settings import RefreshSettings
from authstate.engine.model.session import Authorization
from authstate.testing import FakeAuthority, ManualClock, MemoryStore, make_tokens

ONE_TRY = RefreshSettings(total=0)


class Offline:
    """An engine that is started, whose issuer cannot be reached as often as the test says."""

    def __init__(self, expires_in: float = -10.0, settings: RefreshSettings = ONE_TRY) -> None:
        self.clock = ManualClock()
        self.tokens = make_tokens(expires_in=expires_in, now=self.clock.now())
        self.authority = FakeAuthority(self.tokens, clock=self.clock, expires_in=3600.0)
        self.store = MemoryStore(self.tokens)
        self.engine = AuthEngine(self.store, self.authority, clock=self.clock, settings=settings)

    async def fail(self) -> None:
        self.authority.fail_next(IssuerUnavailable("the proxy is down"))
        with pytest.raises(IssuerUnavailable, match="the proxy is down"):
            await self.engine.authorization()


async def test_after_a_failure_requests_get_the_remembered_reason_until_the_pause_is_over() -> None:
    world = Offline()
    await world.engine.start()
    await world.fail()
    world.clock.advance(29.9)
    for _ in range(10):
        with pytest.raises(IssuerUnavailable, match="the proxy is down"):
            await world.engine.authorization()
    assert len(world.authority.sent) == 1
    world.clock.advance(0.2)
    assert (await world.engine.authorization()).generation == 2
    assert len(world.authority.sent) == 2


async def test_the_pause_is_over_after_exactly_its_length() -> None:
    world = Offline()
    await world.engine.start()
    await world.fail()
    world.clock.advance(29.0)
    await world.engine.check()
    assert len(world.authority.sent) == 1
    world.clock.advance(1.0)
    await world.engine.check()
    assert len(world.authority.sent) == 2


async def test_in_the_pause_tokens_that_another_process_stored_are_used() -> None:
    world = Offline()
    await world.engine.start()
    await world.fail()
    theirs = make_tokens(expires_in=3600, now=world.clock.now())
    world.store.credentials = theirs
    assert (await world.engine.authorization()).token == theirs.access_token
    assert len(world.authority.sent) == 1


async def test_a_401_in_the_pause_gets_the_remembered_reason_unless_there_are_newer_tokens() -> None:
    world = Offline(expires_in=3600)
    await world.engine.start()
    refused = await world.engine.authorization()
    world.authority.fail_next(IssuerUnavailable("the proxy is down"))
    for _ in range(3):
        with pytest.raises(IssuerUnavailable, match="the proxy is down"):
            await world.engine.recover(refused)
    assert len(world.authority.sent) == 1
    assert world.engine.pause_reason is not None
    world.clock.advance(30)
    assert world.engine.pause_reason is None
    newer = await world.engine.recover(refused)
    assert newer.generation == 2
    world.authority.fail_next(IssuerUnavailable("the proxy is down"))
    with pytest.raises(IssuerUnavailable):
        await world.engine.recover(newer)
    world.store.credentials = theirs = make_tokens(expires_in=3600, now=world.clock.now())
    assert (await world.engine.recover(newer)).token == theirs.access_token
    assert world.engine.pause_reason is None, "whoever stored them could ask"
    assert len(world.authority.sent) == 3


async def test_a_refresh_that_is_asked_for_is_tried_in_the_pause_and_ends_it() -> None:
    world = Offline()
    await world.engine.start()
    await world.fail()
    assert (await world.engine.refresh()).generation == 2
    world.clock.advance(3600)
    assert (await world.engine.authorization()).generation == 3


async def test_a_login_ends_the_pause() -> None:
    world = Offline()
    await world.engine.start()
    await world.fail()
    expired = world.authority.accept(make_tokens(expires_in=-5, now=world.clock.now()))
    await world.engine.complete_chatgpt_login(expired)
    assert (await world.engine.authorization()).generation == 3


async def test_a_request_in_the_pause_does_not_wait_for_a_refresh_that_somebody_asked_for() -> None:
    world = Offline()
    await world.engine.start()
    await world.fail()
    world.authority.hold()
    refresh = asyncio.create_task(world.engine.refresh())
    await world.authority.asked()
    with pytest.raises(IssuerUnavailable, match="the proxy is down"):
        await world.engine.authorization()
    world.authority.release()
    await refresh


@pytest.mark.parametrize(("left", "waits"), [(20.0, 2.0), (3.0, 1.5)])
async def test_a_token_with_some_seconds_left_is_handed_out_while_the_refresh_goes_on(
    left: float, waits: float
) -> None:
    world = Offline(expires_in=left)
    await world.engine.start()
    world.authority.hold()
    request = asyncio.create_task(world.engine.authorization())
    await world.authority.asked()
    await world.clock.elapse(waits - 0.1)
    assert not request.done()
    await world.clock.elapse(0.2)
    assert request.done()
    assert request.result().token == world.tokens.access_token
    world.authority.release()
    assert (await world.engine.refresh()).generation >= 2


async def test_a_good_token_is_handed_out_at_once_in_the_pause() -> None:
    world = Offline(expires_in=20)
    world.authority.fail_next(IssuerUnavailable("down"))
    await world.engine.start()
    for _ in range(3):
        assert (await world.engine.authorization()).token == world.tokens.access_token
    assert len(world.authority.sent) == 1


async def test_a_refresh_with_patience_returns_and_goes_on() -> None:
    world = Offline()
    await world.engine.start()
    world.authority.hold()
    refresh = asyncio.create_task(world.engine.refresh(patience=2.0))
    await world.authority.asked()
    await world.clock.elapse(2.1)
    assert (await refresh).generation == 1
    world.authority.release()
    assert (await world.engine.authorization()).generation == 2
    assert len(world.authority.sent) == 1


async def test_a_dead_refresh_token_found_in_the_pause_is_named_and_not_the_pause() -> None:
    world = Offline()
    await world.engine.start()
    await world.fail()
    world.store.credentials = make_tokens(expires_in=3600, account_id="org-of-somebody-else", now=world.clock.now())
    with pytest.raises(PermanentRefreshError):
        await world.engine.refresh()
    assert world.engine.pause_reason is None
    with pytest.raises(PermanentRefreshError):
        await world.engine.recover(Authorization.of(world.engine.session))
