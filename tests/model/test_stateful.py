"""The real engine compared with the reference model: two engines on one store, with faults of the store and the issuer.

After each step, the session, the store, the tokens of the issuer and the events must be as the model says. The model
also says which requests the issuer gets, so a step with one request too many fails.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

import model.reference as model
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from model.worlds import RealEngine, RealWorld

from authstate import ApiKey, Authorization, AuthState, Policy
from authstate.adapters.conformance import held as values
from authstate.engine.model.credentials import ChatgptTokens, Credentials, ExternalTokens
from authstate.engine.model.errors import AuthError, IssuerUnavailable, ParentUnavailable, RefreshDeadReason
from authstate.engine.model.policy import LoginMethod
from authstate.engine.model.secret import Secret
from authstate.testing import make_external_tokens

POLICIES = (
    Policy(),
    Policy(forced_login_method=LoginMethod.API),
    Policy(forced_login_method=LoginMethod.CHATGPT),
    Policy(forced_workspaces=("org-1",)),
)
WHICH = st.sampled_from((0, 1))
WORKSPACES = st.sampled_from(("org-1", "org-1", "org-2"))
PARENT_ANSWERS = st.sampled_from(("yes", "other", "no"))
LIFETIMES = st.sampled_from((3600.0, 3600.0, 200.0, 20.0, -100.0, None))
KINDS = st.sampled_from(("load", "lock", "prepare", "save", "delete"))


def held_of(credentials: Credentials | None) -> values.Held:
    """The credentials of an engine as the type of the model."""
    if isinstance(credentials, ChatgptTokens):
        return values.Managed.of(credentials)
    if isinstance(credentials, ExternalTokens):
        return values.External.of(credentials)
    return values.Key(credentials.key.reveal()) if isinstance(credentials, ApiKey) else None


class AuthStateMachine(RuleBasedStateMachine):
    """Each rule does the same to a real engine and to its model, and compares the results."""

    on_disk: ClassVar[bool]

    def __init__(self) -> None:
        super().__init__()
        self.real = RealWorld(on_disk=self.on_disk)
        self.world = model.World(now=self.real.clock.now(), answers=self.real.answers)
        self.reals: list[RealEngine] = []
        self.models: list[model.Engine] = []
        self.keys = 0

    def teardown(self) -> None:
        for real in self.reals:
            self.real.run(real.engine.close())
        self.real.close()

    # Tools

    def issue(self, workspace: str) -> ChatgptTokens:
        tokens = self.real.issuer.issue(account_id=workspace)
        self.world.live.add(tokens.refresh_token.reveal())
        return tokens

    def key(self) -> ApiKey:
        self.keys += 1
        return ApiKey(Secret(f"sk-{self.keys}"))

    def attempt(self, work: Coroutine[Any, Any, object]) -> tuple[model.Error, object]:
        try:
            return None, self.real.run(work)
        except AuthError as error:
            return type(error), None

    def same(self, which: int, work: Coroutine[Any, Any, object], expect: Callable[[], model.Error]) -> None:
        error, _ = self.attempt(work)
        assert error is expect()

    def can_refresh(self, which: int) -> bool:
        """Whether a refresh of this engine would succeed, and with one request."""
        held, stored, world = self.models[which].held, self.world.stored, self.world
        return (
            self.models[which].state == "chatgpt"
            and isinstance(held, values.Managed)
            and isinstance(stored, values.Managed)
            and model.same_material(held, stored)
            and held.refresh in world.live
            and self.models[which].pending_write is None
            and not (world.broken or world.faults or world.partial)
        )

    # Beginning

    @initialize(logged_in=st.booleans(), lifetime=LIFETIMES)
    def begin(self, logged_in: bool, lifetime: float | None) -> None:
        self.real.issuer.expires_in = lifetime
        if logged_in:
            self.foreign_login("org-1")
        for number in (0, 1):
            self.add(number, Policy())

    def add(self, number: int, policy: Policy) -> None:
        name = f"engine {number}"
        real = RealEngine(name, self.real, policy)
        expected = model.Engine(name, self.world, policy)
        self.reals[number : number + 1] = [real]
        self.models[number : number + 1] = [expected]
        self.real.run(real.engine.start())
        expected.start()

    @rule(which=WHICH, policy=st.sampled_from(POLICIES))
    def restart(self, which: int, policy: Policy) -> None:
        self.real.run(self.reals[which].engine.close())
        self.models[which].close()
        self.add(which, policy)

    # What a person or a front-end does

    @rule(which=WHICH)
    def use_api_key(self, which: int) -> None:
        key = self.key()
        expected = values.Key(key.key.reveal())
        self.same(which, self.reals[which].engine.use_api_key(key), lambda: self.models[which].sign_in(expected))

    @rule(which=WHICH, workspace=WORKSPACES)
    def log_in(self, which: int, workspace: str) -> None:
        tokens = self.issue(workspace)
        work = self.reals[which].engine.complete_chatgpt_login(tokens)
        self.same(which, work, lambda: self.models[which].sign_in(values.Managed.of(tokens)))

    @rule(which=WHICH, workspace=WORKSPACES, lifetime=LIFETIMES)
    def use_external(self, which: int, workspace: str, lifetime: float | None) -> None:
        tokens = make_external_tokens(account_id=workspace, expires_in=lifetime, now=self.real.clock.now())
        work = self.reals[which].engine.use_external_tokens(tokens)
        self.same(which, work, lambda: self.models[which].use_external(values.External.of(tokens)))

    @rule(which=WHICH)
    def log_out(self, which: int) -> None:
        self.same(which, self.reals[which].engine.log_out(), self.models[which].log_out)

    @rule(which=WHICH, policy=st.sampled_from(POLICIES))
    def set_policy(self, which: int, policy: Policy) -> None:
        async def change() -> None:
            self.reals[which].engine.set_policy(policy)

        self.real.run(change())
        self.models[which].set_policy(policy)

    # What needs tokens

    @rule(which=WHICH)
    def refresh(self, which: int) -> None:
        self.same(which, self.reals[which].engine.refresh(), self.models[which].refresh)

    @rule(which=WHICH)
    def check(self, which: int) -> None:
        self.real.run(self.reals[which].engine.check())
        self.models[which].check()

    @rule(which=WHICH)
    def restore(self, which: int) -> None:
        self.real.run(self.reals[which].engine.restore())
        self.models[which].restore()

    @rule(which=WHICH)
    def follow(self, which: int) -> None:
        self.real.run(self.reals[which].engine.follow())
        self.models[which].follow()

    @rule(which=WHICH)
    def reload(self, which: int) -> None:
        assert self.real.run(self.reals[which].engine.reload()) is self.models[which].reload()

    @rule(which=WHICH, callers=st.sampled_from((1, 20)))
    def authorization(self, which: int, callers: int) -> None:
        async def ask_at_once() -> list[Authorization | BaseException]:
            engine = self.reals[which].engine
            return await asyncio.gather(*(engine.authorization() for _ in range(callers)), return_exceptions=True)

        answers = self.real.run(ask_at_once())
        error, token = self.models[which].authorization()
        for answer in answers:
            if isinstance(answer, BaseException):
                assert type(answer) is error
            else:
                assert error is None
                assert answer.token.reveal() == token

    @rule(which=WHICH, callers=st.sampled_from((1, 20)), lifetime=LIFETIMES, answer=PARENT_ANSWERS)
    def recover(self, which: int, callers: int, lifetime: float | None, answer: str) -> None:
        self.prepare_parent(which, lifetime, answer)
        engine = self.reals[which].engine
        if engine.session.credentials is None:
            return
        refused = Authorization.of(engine.session)

        async def ask_at_once() -> list[Authorization | BaseException]:
            return await asyncio.gather(*(engine.recover(refused) for _ in range(callers)), return_exceptions=True)

        answers = self.real.run(ask_at_once())
        error = self.models[which].recover()
        for got in answers:
            assert (type(got) if isinstance(got, BaseException) else None) is error
        self.reals[which].parent.will_answer()
        assert not self.models[which].parent or self.models[which].state != "external_tokens"

    def prepare_parent(self, which: int, lifetime: float | None, answer: str) -> None:
        expected = self.models[which]
        if expected.state != "external_tokens":
            return
        assert isinstance(expected.held, values.External)
        workspace = expected.held.workspace if answer == "yes" else "org-3"
        tokens = make_external_tokens(account_id=workspace, expires_in=lifetime, now=self.real.clock.now())
        reply = ParentUnavailable("the test's parent has none") if answer == "no" else tokens
        self.reals[which].parent.will_answer(reply)
        expected.parent.append(reply)

    @rule(which=WHICH)
    def late_401(self, which: int) -> None:
        """A 401 for an older token returns the current one without a request, if the current one is usable.

        tests/unit/engine/test_engine_recover.py has the case that it is not.
        """
        if not self.reals[which].engine._flows.scheduler.is_usable():
            return
        session = self.reals[which].engine.session
        old = Authorization(Secret("an older token"), None, session.generation - 1)
        error, answer = self.attempt(self.reals[which].engine.recover(old))
        assert (error is None) == (session.credentials is not None)
        assert answer == (Authorization.of(session) if session.credentials is not None else None)

    # Concurrent operations

    @precondition(lambda self: self.can_refresh(0) and self.can_refresh(1))
    @rule()
    def both_refresh(self) -> None:
        """Two engines refresh concurrently: one asks the issuer, the other adopts its tokens."""

        async def both() -> None:
            await asyncio.gather(*(real.engine.refresh() for real in self.reals))

        self.real.run(both())
        (answer,) = self.world.answers
        first, second = (0, 1) if answer.engine == "engine 0" else (1, 0)
        assert self.models[first].refresh() is None
        assert self.models[second].refresh() is None

    @precondition(lambda self: self.can_refresh(0))
    @rule(action=st.sampled_from(("cancel", "log_out", "api_key", "login", "external", "policy", "recover", "close")))
    def meanwhile(self, action: str) -> None:
        """Something else happens after the issuer spent the token and before it answers."""
        real, expected, before = self.reals[0], self.models[0], len(self.real.issuer.sent)
        tokens, key = self.issue("org-1"), self.key()
        external = make_external_tokens(account_id="org-1", now=self.real.clock.now())
        forbids = Policy(forced_login_method=LoginMethod.API)
        refusal = expected.forbidden(values.Key(key.key.reveal())) if action == "api_key" else None

        async def story() -> None:
            engine = real.engine
            self.real.issuer.hold()
            caller = asyncio.ensure_future(engine.refresh())
            await self.real.issuer.asked(before + 1)
            other: asyncio.Future[Any] | None = None
            if action == "cancel":
                caller.cancel()
            elif action == "external":
                await engine.use_external_tokens(external)
            elif action == "policy":
                engine.set_policy(forbids)
            else:
                refused = Authorization.of(engine.session)
                works: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
                    "log_out": engine.log_out,
                    "api_key": lambda: engine.use_api_key(key),
                    "login": lambda: engine.complete_chatgpt_login(tokens),
                    "recover": lambda: engine.recover(refused),
                    "close": engine.close,
                }
                other = asyncio.ensure_future(works[action]())
            await self.real.clock.settle()
            waits = other is None or not other.done()
            self.real.issuer.release()
            await asyncio.wait([caller, *([other] if other else [])])
            assert waits is (refusal is None), "what is forbidden is refused at once, all else waits for the answer"
            error = other.exception() if other is not None else None
            assert error is None if refusal is None else isinstance(error, refusal)

        self.real.run(story())
        if action == "external" and expected.use_external(values.External.of(external)) is None:
            self.landed_alone(held_of(real.replayed.credentials))
        elif action == "policy":
            self.policy_then_refresh(forbids)
        else:
            assert expected.refresh() is None
        if action == "log_out":
            assert expected.log_out() is None
        elif action == "api_key":
            assert expected.sign_in(values.Key(key.key.reveal())) is refusal
        elif action == "login":
            expected.sign_in(values.Managed.of(tokens))
        elif action == "close":
            expected.close()
            self.add(0, expected.policy)

    def landed_alone(self, _held: values.Held) -> None:
        """The refresh stores its tokens, but the session already uses others."""
        expected = self.models[0]
        session = (expected.state, expected.held, expected.reason, expected.generation)
        expected.state, expected.held = "chatgpt", self.world.stored
        assert expected.run_refresh(install=lambda: False) is None
        expected.state, expected.held, expected.reason, expected.generation = session

    def policy_then_refresh(self, policy: Policy) -> None:
        self.models[0].set_policy(policy)
        self.landed_alone(None)

    # Time, faults and other programs

    @rule(seconds=st.sampled_from((1, 45, 61, 250, 3600, 9 * 86_400)))
    def time_passes(self, seconds: int) -> None:
        self.real.clock.advance(seconds)
        self.world.now += seconds
        self.world.monotonic += seconds

    @rule(seconds=st.sampled_from((-7200, -60, 60, 7200)))
    def wall_clock_jumps(self, seconds: int) -> None:
        self.real.clock.jump_wall(seconds)
        self.world.now += seconds

    @rule(lifetime=LIFETIMES)
    def new_lifetime(self, lifetime: float | None) -> None:
        self.real.issuer.expires_in = lifetime

    @rule(retry_after=st.sampled_from((None, 1e6)))
    def issuer_fails_next(self, retry_after: float | None) -> None:
        fault = IssuerUnavailable("the test's issuer is down", retry_after)
        self.real.issuer.fail_next(fault)
        self.world.faults.append(fault)

    @rule()
    def issuer_sends_half_next(self) -> None:
        self.real.issuer.answer_without_access_token_next()
        self.world.partial += 1

    @rule(reason=st.sampled_from((RefreshDeadReason.REVOKED, RefreshDeadReason.EXPIRED, RefreshDeadReason.UNKNOWN)))
    def issuer_kills(self, reason: RefreshDeadReason) -> None:
        self.real.issuer.kill(reason)
        self.world.dead |= dict.fromkeys(self.world.live, str(reason))
        self.world.live.clear()

    @rule(kind=KINDS)
    def store_breaks(self, kind: str) -> None:
        self.real.store.broken.add(kind)
        self.world.broken.add(kind)

    @rule()
    def store_is_repaired(self) -> None:
        self.real.store.broken.clear()
        self.world.broken.clear()

    @rule(workspace=WORKSPACES)
    def foreign_login(self, workspace: str) -> None:
        tokens = self.issue(workspace)
        self.real.foreign(tokens)
        self.world.stored = values.Managed.of(tokens)

    @precondition(lambda self: self.models[0].state == "refresh_dead")
    @rule()
    def dead_login_is_put_back(self) -> None:
        """Another program signs in, and then the older file is restored. The engine knows that its login is dead."""
        dead = self.reals[0].engine.session.credentials
        assert isinstance(dead, ChatgptTokens) and dead.account.account_id is not None
        self.foreign_login(dead.account.account_id)
        self.reload(0)
        self.real.foreign(dead)
        self.world.stored = values.Managed.of(dead)
        self.reload(0)
        self.refresh(0)

    @precondition(lambda self: self.can_refresh(0))
    @rule(looks=st.booleans())
    def backup_is_restored(self, looks: bool) -> None:
        """The file from before a refresh is restored. The engine spent its refresh token and has newer tokens."""
        backup = self.reals[0].engine.session.credentials
        assert isinstance(backup, ChatgptTokens)
        self.refresh(0)
        self.real.foreign(backup)
        self.world.stored = values.Managed.of(backup)
        if looks:
            self.reload(0)
        self.refresh(0)

    @rule()
    def foreign_api_key(self) -> None:
        key = self.key()
        self.real.foreign(key)
        self.world.stored = values.Key(key.key.reveal())

    @rule()
    def foreign_logout(self) -> None:
        self.real.foreign(None)
        self.world.stored = None

    # Invariants

    @invariant()
    def everything_is_as_the_model_says(self) -> None:
        assert not self.world.answers, "the issuer got a request that the model does not expect"
        for real, expected in zip(self.reals, self.models, strict=True):
            session = real.engine.session
            assert (session.state, session.generation) == (expected.state, expected.generation)
            assert held_of(session.credentials) == expected.held
            if session.state is AuthState.REFRESH_DEAD:
                assert session.failure is not None
                assert session.failure.reason == expected.reason
            assert real.replayed == session, "the events do not lead to this session"

    @invariant()
    def the_store_holds_what_was_put_there(self) -> None:
        assert held_of(self.real.stored()) == self.world.stored
        assert (self.real.store.saves, self.real.store.deletes) == (self.world.saves, self.world.deletes)

    @invariant()
    def every_refresh_token_is_spent_once(self) -> None:
        for real in self.reals:
            assert len(real.authority.settled) == len(set(real.authority.settled))
        assert self.real.issuer.live == self.world.live
        assert self.real.issuer.revoked == self.world.revoked


@pytest.mark.parametrize("on_disk", [False, True], ids=["memory", "auth.json"])
def test_engine_against_the_reference(on_disk: bool) -> None:
    machine = type("Machine", (AuthStateMachine,), {"on_disk": on_disk})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=150 if on_disk else 300,
            stateful_step_count=30,
            derandomize=True,
            deadline=None,
            suppress_health_check=tuple(HealthCheck),  # pyright: ignore[reportArgumentType] - its own type of enumeration
        ),
    )
