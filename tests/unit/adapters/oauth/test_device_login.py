"""Signing in with a device code: when it polls, how it ends, and that it leaves nothing behind. The clock is turned."""

import asyncio
from collections import deque
from typing import Any

import pytest

from authstate.adapters.oauth.device_endpoint import (
    DeviceApproval,
    DeviceCode,
    DeviceCodeExpired,
    DeviceCodeNotEnabled,
    SlowDown,
)
from authstate.adapters.oauth.device_login import DEVICE_CODE_WARNING, DeviceLogin, start_device_login
from authstate.adapters.oauth.issuer import Issuer
from authstate.engine.engine import AuthEngine
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.errors import (
    AuthError,
    ExternalTokensActive,
    IssuerUnavailable,
    LoginAttemptEnded,
    LoginFailed,
    LoginMethodForbidden,
    StoreUnavailable,
    WorkspaceForbidden,
)
from authstate.engine.model.events import Event, LoginCompleted
from authstate.engine.model.policy import LoginMethod, Policy
from authstate.engine.model.secret import Secret
from authstate.testing import FakeAuthority, ManualClock, MemoryStore, make_external_tokens, make_tokens

APPROVAL = DeviceApproval(Secret("ac_1"), Secret("verifier"))
PENDING = None
Reply = DeviceApproval | Exception | None


class FakeEndpoint:
    """An issuer in memory: what it answers to each poll, and when it was asked."""

    def __init__(self, clock: ManualClock, *replies: Reply, interval: float = 5.0) -> None:
        self.clock = clock
        self.replies = deque(replies)
        self.interval = interval
        self.polled_at: list[float] = []
        self.tokens = make_tokens()
        self.open = True
        self.request_fault: Exception | None = None
        self.exchange_fault: Exception | None = None
        self.requesting = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def request(self) -> DeviceCode:
        self.requesting.set()
        await self.may_answer.wait()
        if self.request_fault:
            raise self.request_fault
        return DeviceCode(Secret("device"), "ABCD-0001", self.interval, "https://issuer.example/codex/device")

    async def poll(self, code: DeviceCode) -> DeviceApproval | None:
        self.polled_at.append(self.clock.monotonic())
        await self.may_answer.wait()
        reply = self.replies.popleft() if self.replies else PENDING
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def exchange(self, approval: DeviceApproval) -> ChatgptTokens:
        assert approval is APPROVAL
        if self.exchange_fault:
            raise self.exchange_fault
        return self.tokens

    async def aclose(self) -> None:
        self.open = False


class LoginHarness:
    """An engine, an issuer and a clock."""

    def __init__(self, *replies: Reply, interval: float = 5.0, policy: Policy | None = None) -> None:
        self.clock = ManualClock()
        self.store = MemoryStore()
        self.engine = AuthEngine(self.store, FakeAuthority(clock=self.clock), clock=self.clock, policy=policy)
        self.endpoint = FakeEndpoint(self.clock, *replies, interval=interval)
        self.events: list[Event] = []
        self.engine.subscribe(self.events.append)

    @classmethod
    async def open(cls, *replies: Reply, **options: Any) -> "LoginHarness":
        made = cls(*replies, **options)
        await made.engine.start()
        return made

    async def start(self) -> DeviceLogin:
        return await start_device_login(
            self.engine, Issuer("https://issuer.example", "app"), endpoint=self.endpoint, clock=self.clock
        )

    def outcomes(self) -> list[tuple[bool, str | None]]:
        return [(event.success, event.error) for event in self.events if isinstance(event, LoginCompleted)]


async def test_a_login_that_succeeds() -> None:
    harness = await LoginHarness.open(PENDING, PENDING, APPROVAL)
    login = await harness.start()
    assert (login.user_code, login.verification_url) == ("ABCD-0001", "https://issuer.example/codex/device")
    await harness.clock.elapse(14.9)
    assert login.attempt.state == "pending"
    await harness.clock.elapse(0.1)
    await login.closed()
    assert login.attempt.state == "succeeded"
    assert harness.endpoint.polled_at == [5, 10, 15]
    assert harness.store.credentials is harness.endpoint.tokens
    assert harness.outcomes() == [(True, None)]
    assert not harness.endpoint.open
    assert harness.clock.sleepers == 0


def test_the_warning_says_never_to_give_the_code_away() -> None:
    assert "Never give this code to anybody" in DEVICE_CODE_WARNING


async def test_slowing_down() -> None:
    harness = await LoginHarness.open(SlowDown("slower"), PENDING, SlowDown("slower", 40.0), PENDING, PENDING)
    await harness.start()
    await harness.clock.elapse(120)
    # 5 s apart at first, 10 after the first request for fewer questions; 40 once and 15 after the second.
    assert harness.endpoint.polled_at[:6] == [5, 15, 25, 65, 80, 95]


async def test_polls_without_an_answer_go_on_and_are_told() -> None:
    unreachable = IssuerUnavailable("issuer.example cannot be reached")
    harness = await LoginHarness.open(unreachable, IssuerUnavailable("503", 30.0), PENDING, APPROVAL)
    login = await harness.start()
    await harness.clock.elapse(5)
    assert login.trouble == "issuer.example cannot be reached"
    await harness.clock.elapse(35)
    assert login.trouble is None
    await harness.clock.elapse(5)
    await login.closed()
    assert harness.endpoint.polled_at == [5, 10, 40, 45]
    assert login.attempt.state == "succeeded"


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (LoginFailed("the sign-in was declined", "access_denied"), "failed"),
        (DeviceCodeExpired("the device code is too old", "expired_token"), "expired"),
    ],
)
async def test_a_refusal_ends_it(error: LoginFailed, state: str) -> None:
    harness = await LoginHarness.open(PENDING, error)
    login = await harness.start()
    await harness.clock.elapse(10)
    await login.closed()
    assert (login.attempt.state, harness.outcomes()) == (state, [(False, str(error))])
    await harness.clock.elapse(100)
    assert len(harness.endpoint.polled_at) == 2
    assert not harness.endpoint.open


async def test_it_expires_after_fifteen_minutes() -> None:
    harness = await LoginHarness.open()
    login = await harness.start()
    await harness.clock.elapse(899)
    assert login.attempt.is_open
    await harness.clock.elapse(1)
    await login.closed()
    assert login.attempt.state == "expired"
    assert len(harness.endpoint.polled_at) in (179, 180)
    assert (harness.clock.sleepers, harness.endpoint.open) == (0, False)


@pytest.mark.parametrize("moment", ["asleep", "polling"])
async def test_cancelling_ends_it_at_once(moment: str) -> None:
    harness = await LoginHarness.open()
    login = await harness.start()
    if moment == "polling":
        harness.endpoint.may_answer.clear()
        await harness.clock.elapse(5)
        assert len(harness.endpoint.polled_at) == 1
    assert await harness.engine.cancel_login(login.attempt.login_id)
    await login.closed()
    assert login.attempt.state == "cancelled"
    assert harness.outcomes() == [(False, "the login was cancelled")]
    assert (harness.clock.sleepers, harness.endpoint.open) == (0, False)


async def test_an_approval_after_the_cancel_changes_nothing() -> None:
    harness = await LoginHarness.open(APPROVAL)
    login = await harness.start()
    harness.endpoint.may_answer.clear()
    await harness.clock.elapse(5)
    harness.endpoint.may_answer.set()
    assert await harness.engine.cancel_login(login.attempt.login_id)
    await login.closed()
    assert login.attempt.state == "cancelled"
    assert harness.store.credentials is None


async def test_a_second_start_supersedes_the_first() -> None:
    harness = await LoginHarness.open()
    first = await harness.start()
    second = await harness.start()
    await first.closed()
    assert (first.attempt.state, second.attempt.state) == ("superseded", "pending")
    await harness.engine.close()
    await second.closed()
    assert second.attempt.state == "superseded"
    assert harness.clock.sleepers == 0


async def test_where_it_cannot_begin() -> None:
    harness = await LoginHarness.open(policy=Policy(LoginMethod.API))
    with pytest.raises(LoginMethodForbidden):
        await harness.start()
    harness.engine.set_policy(Policy())
    await harness.engine.use_external_tokens(make_external_tokens())
    with pytest.raises(ExternalTokensActive):
        await harness.start()
    assert not harness.endpoint.requesting.is_set()


@pytest.mark.parametrize("error", [DeviceCodeNotEnabled("not here"), IssuerUnavailable("down"), LoginFailed("no")])
async def test_no_code_is_the_end_of_the_attempt(error: AuthError) -> None:
    harness = await LoginHarness.open()
    harness.endpoint.request_fault = error
    with pytest.raises(type(error)):
        await harness.start()
    assert harness.outcomes() == [(False, str(error))]
    assert (harness.clock.sleepers, harness.endpoint.open) == (0, False)


async def test_a_fault_in_the_endpoint_leaves_no_attempt_open() -> None:
    harness = await LoginHarness.open()
    harness.endpoint.request_fault = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        await harness.start()
    assert [success for success, _ in harness.outcomes()] == [False]
    assert not harness.endpoint.open


async def test_something_comes_first_while_the_issuer_is_asked() -> None:
    harness = await LoginHarness.open()
    harness.endpoint.may_answer.clear()
    starting = asyncio.create_task(harness.start())
    await harness.endpoint.requesting.wait()
    await harness.engine.log_out()
    with pytest.raises(LoginAttemptEnded, match="signed out"):
        await starting
    assert [success for success, _ in harness.outcomes()] == [False]
    assert not harness.endpoint.open


@pytest.mark.parametrize("ended_before", [False, True])
async def test_cancelling_the_caller_while_the_issuer_is_asked(ended_before: bool) -> None:
    harness = await LoginHarness.open()
    harness.endpoint.may_answer.clear()
    starting = asyncio.create_task(harness.start())
    await harness.endpoint.requesting.wait()
    if ended_before:
        await harness.engine.use_external_tokens(make_external_tokens())
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert harness.outcomes()[0][0] is False
    assert (harness.clock.sleepers, harness.endpoint.open) == (0, False)


@pytest.mark.parametrize("fault", [LoginFailed("the code is spent", "invalid_grant"), IssuerUnavailable("503")])
async def test_an_exchange_that_fails(fault: AuthError) -> None:
    harness = await LoginHarness.open(APPROVAL)
    harness.endpoint.exchange_fault = fault
    login = await harness.start()
    await harness.clock.elapse(5)
    await login.closed()
    assert (login.attempt.state, login.attempt.message) == ("failed", str(fault))
    assert harness.outcomes() == [(False, str(fault))]


async def test_a_workspace_that_is_not_allowed_is_stored_nowhere() -> None:
    harness = await LoginHarness.open(APPROVAL, policy=Policy(forced_workspaces=("org-9",)))
    login = await harness.start()
    await harness.clock.elapse(5)
    await login.closed()
    assert login.attempt.state == "failed"
    assert "org-9" in (login.attempt.message or "")
    with pytest.raises(WorkspaceForbidden):
        await harness.engine.complete_chatgpt_login(harness.endpoint.tokens)
    assert harness.store.saves == 0


async def test_a_store_that_cannot_be_written_keeps_the_old_login(monkeypatch: pytest.MonkeyPatch) -> None:
    harness = await LoginHarness.open(APPROVAL)
    old = make_tokens(now=harness.clock.now())
    await harness.engine.complete_chatgpt_login(old)
    login = await harness.start()

    def sick() -> None:
        raise StoreUnavailable("the home is read-only")

    monkeypatch.setattr(harness.store, "locked", sick)
    await harness.clock.elapse(5)
    await login.closed()
    assert (login.attempt.state, login.attempt.message) == ("failed", "the home is read-only")
    assert harness.engine.session.credentials is harness.store.credentials is old


async def test_the_end_of_the_loop_ends_the_attempt() -> None:
    harness = await LoginHarness.open()
    login = await harness.start()
    await harness.clock.until_asleep(2)
    login._task.cancel()
    await login.closed()
    assert (login.attempt.state, harness.endpoint.open) == ("superseded", False)


async def test_a_thousand_logins_leave_nothing_behind() -> None:
    harness = await LoginHarness.open()
    before = len(asyncio.all_tasks())
    for _ in range(1000):
        login = await harness.start()
        assert await harness.engine.cancel_login(login.attempt.login_id)
        await login.closed()
    await harness.clock.settle()
    assert len(asyncio.all_tasks()) == before
    assert harness.clock.sleepers == 0
    assert harness.outcomes() == [(False, "the login was cancelled")] * 1000
