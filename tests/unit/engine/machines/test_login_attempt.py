"""The login attempt: it ends once, with one outcome, whatever comes in whatever order."""

import asyncio
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, NoReturn
from uuid import uuid4

import pytest

from authstate.engine.clock import SystemClock, within
from authstate.engine.engine import AuthEngine
from authstate.engine.machines.login_attempt import LOGIN_TABLE, LoginAttempt, LoginFlow
from authstate.engine.machines.table import shared_machine
from authstate.engine.model.credentials import ApiKey
from authstate.engine.model.errors import (
    EngineClosed,
    ExternalTokensActive,
    LoginAttemptEnded,
    LoginMethodForbidden,
    StoreUnavailable,
    TransitionRefused,
    WorkspaceForbidden,
)
from authstate.engine.model.events import AccountUpdated, AuthMode, Event, Listeners, LoginCompleted, StateChanged
from authstate.engine.model.policy import LoginMethod, Policy
from authstate.engine.model.states import AuthState
from authstate.engine.ports import HeldStore
from authstate.testing import FakeAuthority, ManualClock, MemoryStore, make_external_tokens, make_tokens

EXPECTED = {
    "pending": {
        "authorized": "exchanging",
        "refused": "failed",
        "cancelled": "cancelled",
        "timed_out": "expired",
        "superseded": "superseded",
    },
    "exchanging": {
        "stored": "succeeded",
        "refused": "failed",
        "cancelled": "cancelled",
        "timed_out": "expired",
        "superseded": "superseded",
    },
    "succeeded": {},
    "failed": {},
    "cancelled": {},
    "expired": {},
    "superseded": {},
}


WAYS = {
    "pending": [],
    "exchanging": ["authorized"],
    "succeeded": ["authorized", "stored"],
    "failed": ["refused"],
    "cancelled": ["cancelled"],
    "expired": ["timed_out"],
    "superseded": ["superseded"],
}
"""The triggers that lead to each state."""


def report(attempt: LoginAttempt, trigger: str) -> None:
    """Report what happened, as the adapter of a login does."""
    calls = {"authorized": attempt.authorized, "stored": attempt.stored}
    calls.get(trigger, partial(attempt.fail_storing, trigger, "because"))()


@pytest.mark.parametrize(("state", "trigger"), [(s, t) for s in EXPECTED for t in LOGIN_TABLE.triggers])
def test_every_cell(state: str, trigger: str) -> None:
    attempt = LoginAttempt("id", LoginFlow.BROWSER, shared_machine(LOGIN_TABLE), Listeners())
    for step in WAYS[state]:
        report(attempt, step)
    assert attempt.state == state
    target = EXPECTED[state].get(trigger)
    if target is None:
        with pytest.raises(LoginAttemptEnded):
            report(attempt, trigger)
    else:
        report(attempt, trigger)
    assert attempt.state == (target or state)


def test_the_table_is_whole() -> None:
    assert set(LOGIN_TABLE.states) == set(EXPECTED)
    assert LOGIN_TABLE.finals == ("succeeded", "failed", "cancelled", "expired", "superseded")


class Attempts:
    """An engine where people sign in."""

    def __init__(self, **settings: Any) -> None:
        self.clock = ManualClock()
        self.store = MemoryStore()
        self.authority = FakeAuthority(clock=self.clock)
        self.engine = AuthEngine(self.store, self.authority, clock=self.clock, **settings)
        self.events: list[Event] = []
        self.engine.subscribe(self.events.append)
        self.tokens = make_tokens()
        self.holder: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, **settings: Any) -> "Attempts":
        made = cls(**settings)
        await made.engine.start()
        return made

    async def begin(self, kind: LoginFlow = LoginFlow.BROWSER, *, authorized: bool = False) -> LoginAttempt:
        attempt = await self.engine.begin_login(str(uuid4()), kind)
        if authorized:
            attempt.authorized()
        return attempt

    def outcomes(self) -> list[tuple[str | None, bool]]:
        return [(event.login_id, event.success) for event in self.events if isinstance(event, LoginCompleted)]


async def test_a_login_that_succeeds() -> None:
    harness = await Attempts.open()
    attempt = await harness.begin()
    assert attempt.is_open
    attempt.authorized()
    ended: list[str] = []
    attempt.when_ended(lambda: ended.append(attempt.state))
    await harness.engine.complete_login(attempt, harness.tokens)
    attempt.when_ended(lambda: ended.append("late"))
    await attempt.wait()
    assert (attempt.state, attempt.is_open, attempt.message) == ("succeeded", False, None)
    assert ended == ["succeeded", "late"]
    assert attempt.is_storing is False
    assert isinstance(harness.events[0], StateChanged)
    assert harness.events[1:] == [
        LoginCompleted(attempt.login_id, success=True),
        AccountUpdated(AuthMode.CHATGPT, harness.tokens.account.plan_type),
    ]
    assert harness.store.credentials is harness.tokens
    await harness.clock.settle()
    assert harness.clock.sleepers == 0
    with pytest.raises(LoginAttemptEnded, match=r"^this login attempt is over: it succeeded$"):
        await harness.engine.complete_login(attempt, harness.tokens)
    with pytest.raises(LoginAttemptEnded, match=r"^this login attempt is over: it succeeded$"):
        attempt.authorized()
    assert len(harness.outcomes()) == 1


async def test_tokens_before_the_person_agreed_are_refused() -> None:
    harness = await Attempts.open()
    attempt = await harness.begin()
    with pytest.raises(TransitionRefused):
        await harness.engine.complete_login(attempt, harness.tokens)
    assert harness.store.saves == 0
    assert attempt.state == "failed"


@pytest.mark.parametrize(("kind", "seconds"), [(LoginFlow.BROWSER, 600), (LoginFlow.DEVICE_CODE, 900)])
async def test_an_attempt_lives_only_so_long(kind: LoginFlow, seconds: float) -> None:
    harness = await Attempts.open()
    attempt = await harness.begin(kind, authorized=True)
    await harness.clock.elapse(seconds - 1)
    assert attempt.is_open
    await harness.clock.elapse(1)
    assert attempt.state == "expired"
    assert f"{seconds / 60:.0f} minutes" in (attempt.message or "")
    assert harness.outcomes() == [(attempt.login_id, False)]
    with pytest.raises(LoginAttemptEnded, match="minutes"):
        await harness.engine.complete_login(attempt, harness.tokens)
    assert (harness.store.saves, len(harness.events)) == (0, 1)


async def test_cancelling() -> None:
    harness = await Attempts.open()
    assert await harness.engine.cancel_login("nobody") is False
    attempt = await harness.begin()
    assert await harness.engine.cancel_login("nobody") is False
    assert await harness.engine.cancel_login(attempt.login_id) is True
    assert await harness.engine.cancel_login(attempt.login_id) is False
    assert attempt.state == "cancelled"
    assert harness.events == [LoginCompleted(attempt.login_id, success=False, error="the login was cancelled")]
    assert attempt.end("refused", "too late") is False
    for late in (lambda: attempt.fail_storing("refused", "too late"), attempt.storing, attempt.authorized):
        with pytest.raises(LoginAttemptEnded, match=r"^the login was cancelled$"):
            late()


async def test_an_attempt_that_is_over_keeps_nobody_alive_who_waited_for_it() -> None:
    class Page:
        def close(self) -> None:
            """Closed with the attempt."""

    harness, page = await Attempts.open(), Page()
    attempt = await harness.begin()
    attempt.when_ended(page.close)
    still_there = weakref.ref(page)
    del page
    assert still_there() is not None
    await harness.engine.cancel_login(attempt.login_id)
    assert still_there() is None


@pytest.mark.parametrize("what", ["login", "external", "logout", "key", "tokens", "close"])
async def test_what_supersedes_an_attempt(what: str) -> None:
    harness = await Attempts.open()
    attempt = await harness.begin(authorized=True)
    if what == "login":
        assert (await harness.begin()).is_open
    elif what == "external":
        await harness.engine.use_external_tokens(make_external_tokens())
    elif what == "logout":
        await harness.engine.log_out()
    elif what == "key":
        await harness.engine.use_api_key(ApiKey.parse("sk-1"))
    elif what == "tokens":
        await harness.engine.complete_chatgpt_login(make_tokens())
    else:
        await harness.engine.close()
    assert attempt.state == "superseded"
    assert (attempt.message or "").startswith("this login was ended: ")
    assert harness.outcomes().count((attempt.login_id, False)) == 1
    error = EngineClosed if what == "close" else LoginAttemptEnded
    with pytest.raises(error):
        await harness.engine.complete_login(attempt, harness.tokens)
    assert harness.engine.session.credentials is not harness.tokens


async def test_a_login_cannot_begin_where_it_cannot_end() -> None:
    harness = await Attempts.open(policy=Policy(LoginMethod.API))
    with pytest.raises(LoginMethodForbidden):
        await harness.begin()
    harness.engine.set_policy(Policy())
    await harness.engine.use_external_tokens(make_external_tokens())
    with pytest.raises(ExternalTokensActive):
        await harness.begin()
    await harness.engine.close()
    with pytest.raises(EngineClosed):
        await harness.begin()


async def test_a_login_into_a_forbidden_workspace_fails_the_attempt() -> None:
    harness = await Attempts.open(policy=Policy(None, ("org-9",)))
    attempt = await harness.begin(authorized=True)
    with pytest.raises(WorkspaceForbidden):
        await harness.engine.complete_login(attempt, harness.tokens)
    assert attempt.state == "failed"
    assert "org-9" in (attempt.message or "")
    assert harness.outcomes() == [(attempt.login_id, False)]
    assert harness.store.saves == 0
    assert harness.engine.session.generation == 0


async def test_a_store_that_refuses_fails_the_attempt() -> None:
    harness = await Attempts.open()

    def sick() -> NoReturn:
        raise StoreUnavailable("the home is read-only")

    harness.store.locked = sick
    attempt = await harness.begin(authorized=True)
    with pytest.raises(StoreUnavailable):
        await harness.engine.complete_login(attempt, harness.tokens)
    assert (attempt.state, attempt.message) == ("failed", "the home is read-only")


async def storing() -> tuple[Attempts, LoginAttempt, "asyncio.Task[None]", "asyncio.Event"]:
    """An attempt that waits for the store's lock with its tokens; the event lets it go on."""
    harness, attempt_may_go = await Attempts.open(), asyncio.Event()

    async def holder() -> None:
        async with harness.store.locked():
            await attempt_may_go.wait()

    harness.holder = asyncio.create_task(holder())
    await harness.clock.settle()
    attempt = await harness.begin(authorized=True)
    completing = asyncio.create_task(harness.engine.complete_login(attempt, harness.tokens))
    await harness.clock.settle()
    assert attempt.is_storing
    return harness, attempt, completing, attempt_may_go


async def test_while_it_is_stored_nobody_ends_it_from_outside() -> None:
    harness, attempt, completing, go = await storing()
    assert attempt.end("cancelled", "no") is False
    await harness.clock.elapse(600)
    cancelling = asyncio.create_task(harness.engine.cancel_login(attempt.login_id))
    beginning = asyncio.create_task(harness.begin())
    logging_out = asyncio.create_task(harness.engine.log_out())
    await harness.clock.settle()
    assert not any(task.done() for task in (cancelling, beginning, logging_out))
    go.set()
    await completing
    assert attempt.state == "succeeded"
    assert await cancelling is False
    assert (await beginning).login_id != attempt.login_id
    await logging_out
    assert harness.engine.session.state is AuthState.LOGGED_OUT
    assert harness.store.credentials is None
    assert harness.outcomes()[0] == (attempt.login_id, True)


async def test_cancelling_the_one_who_stores_fails_the_attempt() -> None:
    harness, attempt, completing, go = await storing()
    completing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await completing
    go.set()
    assert attempt.state == "superseded"
    assert harness.outcomes() == [(attempt.login_id, False)]
    assert harness.store.saves == 0
    await asyncio.wait_for(harness.engine.use_api_key(ApiKey.parse("sk-1")), 60)


async def test_the_real_clock() -> None:
    clock = SystemClock()
    began = clock.monotonic()
    await clock.sleep(0.001)
    assert clock.monotonic() >= began
    assert clock.now() > 1.7e9


async def test_a_bounded_wait() -> None:
    clock = ManualClock()

    async def answer() -> int:
        return 42

    assert await within(clock, 1, answer()) == 42
    never = asyncio.Event()
    waiting = asyncio.create_task(within(clock, 1, never.wait()))
    await clock.elapse(1)
    with pytest.raises(TimeoutError):
        await waiting
    waiting = asyncio.create_task(within(clock, 1, never.wait()))
    await clock.until_asleep()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert clock.sleepers == 0


async def test_who_is_cancelled_while_the_lock_is_released_is_signed_in_and_told_so() -> None:
    harness = await Attempts.open()
    locked, release = harness.store.locked, asyncio.Event()

    @asynccontextmanager
    async def slow_to_release() -> AsyncIterator[HeldStore]:
        async with locked() as held:
            yield held
            await release.wait()

    harness.store.locked = slow_to_release
    attempt = await harness.begin(authorized=True)
    completing = asyncio.create_task(harness.engine.complete_login(attempt, harness.tokens))
    await harness.clock.settle()
    completing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await completing
    assert attempt.state == "succeeded"
    assert harness.outcomes() == [(attempt.login_id, True)]
    assert harness.engine.session.credentials is harness.store.credentials is harness.tokens
    leaving = asyncio.create_task(harness.engine.log_out())
    await harness.clock.settle()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert harness.engine.session.state is AuthState.LOGGED_OUT
    assert harness.events[-1] == AccountUpdated(None, None)
    release.set()
    await harness.engine.close()
    assert harness.authority.revoked == [harness.tokens.refresh_token.reveal()]


async def test_no_attempt_begins_on_an_engine_that_was_closed_while_it_waited() -> None:
    harness = await Attempts.open()
    first = await harness.begin(authorized=True)
    first.storing()
    beginning = asyncio.create_task(harness.begin(authorized=True))
    await asyncio.sleep(0)
    await harness.engine.close()
    first.fail_storing("superseded", "the program ends")
    with pytest.raises(EngineClosed):
        await beginning
    assert harness.outcomes() == [(first.login_id, False)]
    assert harness.store.saves == 0


async def test_a_caller_that_is_cancelled_after_the_tokens_are_stored_is_signed_in() -> None:
    class SlowRelease(MemoryStore):
        @asynccontextmanager
        async def locked(self) -> AsyncIterator[HeldStore]:
            async with super().locked() as held:
                yield held
            await never.wait()

    never = asyncio.Event()
    harness = await Attempts.open()
    engine = AuthEngine(store := SlowRelease(), harness.authority, clock=harness.clock)
    await engine.start()
    attempt = await engine.begin_login(str(uuid4()), LoginFlow.BROWSER)
    attempt.authorized()
    completing = asyncio.create_task(engine.complete_login(attempt, harness.tokens))
    await attempt.wait()
    completing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await completing
    assert (attempt.state, store.credentials) == ("succeeded", harness.tokens)
    assert engine.session.credentials is harness.tokens


async def test_a_lock_that_cannot_be_released_does_not_undo_a_login_that_is_stored() -> None:
    class NoRelease(MemoryStore):
        @asynccontextmanager
        async def locked(self) -> AsyncIterator[HeldStore]:
            async with super().locked() as held:
                yield held
            raise StoreUnavailable("the lock is gone")

    harness = await Attempts.open()
    engine = AuthEngine(NoRelease(), harness.authority, clock=harness.clock)
    await engine.start()
    attempt = await engine.begin_login(str(uuid4()), LoginFlow.BROWSER)
    attempt.authorized()
    with pytest.raises(StoreUnavailable, match="the lock is gone"):
        await engine.complete_login(attempt, harness.tokens)
    assert (attempt.state, engine.session.credentials) == ("succeeded", harness.tokens)
