"""The steps of a refresh, as an engine tells them."""

import asyncio

import pytest

from authstate import AuthEngine, MemoryStore
from authstate.engine.machines.refresh_claim import RefreshClaim, RefreshClaimState, fingerprint_of
from authstate.engine.machines.refresh_trace import (
    AccessRefused,
    ClaimStep,
    EngineEnded,
    TokenAnswered,
    TokenSent,
    TraceStep,
)
from authstate.engine.model.errors import AuthError, Delivery, IssuerUnavailable, RefreshDeadReason, StoreUnavailable
from authstate.engine.model.refresh_settings import RefreshSettings
from authstate.engine.model.session import Authorization
from authstate.testing import FakeAuthority, make_tokens

QUICK = RefreshSettings(first_wait=0.0, total=0.0, rechecks=(), save_waits=(0.0,))


class Traced:
    """An engine whose steps are kept."""

    def __init__(self, expires_in: float = -60.0) -> None:
        self.tokens = make_tokens(expires_in=expires_in)
        self.store = MemoryStore(self.tokens)
        self.authority = FakeAuthority(self.tokens)
        self.engine = AuthEngine(self.store, self.authority, settings=QUICK)
        self.steps: list[TraceStep] = []
        self.engine.subscribe_trace(self.steps.append)

    def shown(self) -> list[str]:
        """The steps in short."""
        return [_short(step) for step in self.steps]


def _short(step: TraceStep) -> str:
    if isinstance(step, ClaimStep):
        written = "" if step.is_recorded else " unwritten"
        return f"{step.trigger}: {step.found} -> {step.claim.state}{written}{' could wait' * step.could_wait}"
    if isinstance(step, TokenAnswered):
        return f"answered {step.attempt}: {type(step.error).__name__}"
    return f"sent {step.attempt}" if isinstance(step, TokenSent) else type(step).__name__


async def failing_refresh(traced: Traced) -> None:
    with pytest.raises(AuthError):
        await traced.engine.refresh()


async def test_a_refresh_claims_sends_and_settles() -> None:
    traced = Traced()
    async with traced.engine as engine:
        await engine.refresh()
    assert traced.shown() == [
        *("claim: free -> claimed", "sent 1", "answered 1: NoneType", "settle: claimed -> spent", "EngineEnded"),
    ]
    assert {step.fingerprint for step in traced.steps if isinstance(step, TokenSent | TokenAnswered)} == {
        fingerprint_of(traced.tokens.refresh_token)
    }


async def test_a_lost_answer_is_a_doubt() -> None:
    traced = Traced()
    traced.authority.fail_next(IssuerUnavailable("lost", delivery=Delivery.UNKNOWN))
    async with traced.engine:
        await failing_refresh(traced)
    assert traced.shown() == [
        *("claim: free -> claimed", "sent 1", "answered 1: IssuerUnavailable", "lose: claimed -> doubtful"),
        "EngineEnded",
    ]


async def test_a_token_that_is_dead() -> None:
    traced = Traced()
    traced.authority.kill(RefreshDeadReason.EXPIRED)
    async with traced.engine:
        await failing_refresh(traced)
    assert traced.shown()[2:4] == ["answered 1: PermanentRefreshError", "refuse: claimed -> dead"]


async def test_what_the_store_does_not_take_is_unwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    traced = Traced()
    records: list[RefreshClaim] = []

    async def full(_: object, claim: RefreshClaim) -> None:
        records.append(claim)
        raise StoreUnavailable("full")

    async with traced.engine:
        with monkeypatch.context() as patched:
            patched.setattr("authstate.adapters.stores.memory._HeldMemory.record", full)
            await failing_refresh(traced)
            assert traced.shown() == ["claim: free -> claimed unwritten"]
        traced.steps.clear()
        traced.authority.fail_next(IssuerUnavailable("unsent", delivery=Delivery.REFUSED))
        real = traced.store.claims
        refusing = asyncio.ensure_future(failing_refresh(traced))
        await refusing
        assert traced.shown()[-1] == "withdraw: claimed -> free"
        assert real is not None and len(records) == 1


async def test_an_end_that_the_store_does_not_take_is_unwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    traced = Traced()
    traced.authority.kill(RefreshDeadReason.EXPIRED)

    async def full_at_the_end(held: object, claim: RefreshClaim) -> None:
        if claim.state is not RefreshClaimState.CLAIMED:
            raise StoreUnavailable("full")

    monkeypatch.setattr("authstate.adapters.stores.memory._HeldMemory.record", full_at_the_end)
    async with traced.engine:
        await failing_refresh(traced)
    assert "refuse: claimed -> dead unwritten" in traced.shown()


async def test_a_token_in_doubt_is_sent_once_the_access_token_is_refused() -> None:
    traced = Traced(expires_in=3600.0)
    traced.authority.fail_next(IssuerUnavailable("lost", delivery=Delivery.UNKNOWN))
    async with traced.engine as engine:
        await failing_refresh(traced)
        traced.steps.clear()
        engine._flows.scheduler._pause_reason = None
        refused = Authorization.of(engine.session)
        await engine.recover(refused)
        assert traced.shown()[:2] == ["AccessRefused", "claim: doubtful -> claimed"]
        assert traced.steps[0] == AccessRefused(1)
        await engine.recover(refused)
        assert traced.steps[-1] == AccessRefused(1), "the session has another token since"
    assert traced.steps[-1] == EngineEnded()


async def test_a_subscription_ends() -> None:
    traced = Traced()
    more: list[TraceStep] = []
    traced.engine.subscribe_trace(more.append)()
    async with traced.engine as engine:
        await engine.refresh()
    assert traced.steps and not more
    with pytest.raises(TypeError):
        engine.subscribe_trace(None)  # type: ignore[arg-type]
