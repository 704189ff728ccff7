"""A store whose lock ends by itself: when a token is sent, and when it is not."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest

from authstate import (
    AuthEngine,
    Delivery,
    IssuerUnavailable,
    MemoryStore,
    NotSentInTime,
    RefreshClaimState,
    RefreshedTokens,
    RefreshInDoubt,
    RefreshSettings,
    Secret,
    StoreBusy,
)
from authstate.engine.flows.refresh_retries import RefreshProgress, RefreshRequest
from authstate.engine.machines.refresh_claim import fingerprint_of
from authstate.testing import FakeAuthority, ManualClock, make_tokens

TOKENS = RefreshedTokens(Secret("access"))


class Lock:
    """A lock that ends by itself. `time_left` is how often a token may be sent before it is to be renewed."""

    def __init__(self, time_left: int, *, is_lost: bool = False) -> None:
        self.time_left = time_left
        self.is_lost = is_lost
        self.did: list[str] = []

    async def renew(self) -> None:
        self.did.append("renew")
        if self.is_lost:
            raise StoreBusy("another process took the lock")
        self.time_left = 2

    def ensure_may_send(self) -> None:
        if self.time_left <= 0:
            self.did.append("too late")
            raise NotSentInTime
        self.did.append("in time")
        self.time_left -= 1


class Issuer:
    """Fails so many times before it answers."""

    def __init__(self, lock: Lock, *failures: Delivery) -> None:
        self.lock = lock
        self.failures = list(failures)

    async def refresh(self, refresh_token: Secret) -> RefreshedTokens:
        self.lock.did.append("send")
        if self.failures:
            raise IssuerUnavailable("not now", delivery=self.failures.pop(0))
        return TOKENS


class CheckingIssuer(Issuer):
    """Checks again once it has connected, which takes the rest of the lock's time at first."""

    def __init__(self, lock: Lock, *failures: Delivery, slow_connections: int = 0) -> None:
        super().__init__(lock, *failures)
        self.slow_connections = slow_connections

    async def refresh_if(self, refresh_token: Secret, ensure_may_send: Callable[[], None]) -> RefreshedTokens:
        self.lock.did.append("connect")
        if self.slow_connections:
            self.slow_connections -= 1
            self.lock.time_left = 0
        ensure_may_send()
        return await self.refresh(refresh_token)


class PassingClock(ManualClock):
    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)


async def send(issuer: Issuer, lock: Lock) -> RefreshedTokens:
    settings = RefreshSettings(total=30.0)
    request = RefreshRequest(issuer, PassingClock(), Random(1), settings, RefreshProgress(), lock)  # type: ignore[arg-type]
    return await request.send(Secret("refresh"))


async def test_a_token_is_sent_while_there_is_time() -> None:
    lock = Lock(2)
    assert await send(Issuer(lock), lock) is TOKENS
    assert lock.did == ["in time", "in time", "send"]


async def test_a_lock_whose_time_is_over_is_renewed_first() -> None:
    lock = Lock(0)
    assert await send(Issuer(lock), lock) is TOKENS
    assert lock.did == ["too late", "renew", "in time", "send"]


async def test_a_cancellation_that_comes_while_the_lock_is_renewed_is_delivered_before_the_token_is_sent() -> None:
    """A write of a store ends first, and delivers a cancellation at the next await. That must not be the request."""

    class CancelledMeanwhile(Lock):
        async def renew(self) -> None:
            await super().renew()
            task = asyncio.current_task()
            assert task is not None
            task.cancel()

    lock, progress = CancelledMeanwhile(0), RefreshProgress()
    request = RefreshRequest(Issuer(lock), PassingClock(), Random(1), RefreshSettings(), progress, lock)  # type: ignore[arg-type]
    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(request.send(Secret("refresh")))
    assert lock.did == ["too late", "renew"]
    assert not progress.is_uncancellable and progress.attempts == 0


async def test_each_repeat_looks_again() -> None:
    lock = Lock(2)
    await send(Issuer(lock, Delivery.NOT_SENT, Delivery.NOT_PROCESSED), lock)
    assert lock.did.count("send") == 3
    assert lock.did.count("renew") == 2


async def test_an_issuer_that_can_checks_once_it_has_connected() -> None:
    lock = Lock(2)
    await send(CheckingIssuer(lock), lock)
    assert lock.did == ["in time", "connect", "in time", "send"]


async def test_a_connection_that_took_too_long_sends_nothing_and_is_repeated() -> None:
    lock = Lock(2)
    await send(CheckingIssuer(lock, slow_connections=1), lock)
    assert lock.did == ["in time", "connect", "too late", "too late", "renew", "connect", "in time", "send"]


@pytest.mark.parametrize("kind", [Issuer, CheckingIssuer])
async def test_who_lost_the_lock_sends_nothing(kind: type[Issuer]) -> None:
    lock = Lock(0, is_lost=True)
    with pytest.raises(StoreBusy, match="another process took the lock"):
        await send(kind(lock), lock)
    assert "send" not in lock.did


class ExpiringStore(MemoryStore):
    """A store in memory whose lock is lost as soon as a token was sent once."""

    lock = Lock(1, is_lost=True)

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[Any]:
        async with super().locked() as held:
            held.renew, held.ensure_may_send = self.lock.renew, self.lock.ensure_may_send  # type: ignore[attr-defined]
            yield held


@pytest.mark.parametrize(
    ("delivery", "state"), [(Delivery.NOT_SENT, None), (Delivery.UNKNOWN, RefreshClaimState.DOUBTFUL)]
)
async def test_a_refresh_that_lost_its_lock_ends_its_claim(delivery: Delivery, state: RefreshClaimState | None) -> None:
    """Whether the token may be spent depends on what was sent before."""
    tokens = make_tokens(expires_in=-60.0)
    store, authority = ExpiringStore(tokens), FakeAuthority(tokens)
    store.lock = Lock(2, is_lost=True)
    authority.outage = IssuerUnavailable("not now", delivery=delivery)
    async with AuthEngine(store, authority) as engine:
        with pytest.raises((StoreBusy, RefreshInDoubt)):
            await asyncio.wait_for(engine.authorization(), 60)
    claim = await store.claim_on(fingerprint_of(tokens.refresh_token))
    assert (claim.state if claim is not None else None) is state
