"""The 401 recovery: every way through its table, and a mode that was added from outside."""

import asyncio

import msgspec
import pytest

from authstate.engine.engine import AuthEngine
from authstate.engine.machines.recovery import RECOVERY_TABLE, STEPS, Recovery, RecoveryPlan
from authstate.engine.machines.table import Row, Table
from authstate.engine.model.credentials import ApiKey, Credentials
from authstate.engine.model.errors import (
    AuthError,
    EngineClosed,
    IssuerUnavailable,
    ParentUnavailable,
    RecoveryExhausted,
    RefreshInterrupted,
    TransitionRefused,
)
from authstate.engine.model.secret import Secret
from authstate.engine.model.session import Authorization, Failure, Session
from authstate.engine.model.states import AuthState
from authstate.testing import FakeAuthority, MemoryStore, make_external_tokens, make_tokens

EXPECTED = {
    "diagnose": {
        "generation_moved_on": "retry",
        "no_recovery": "exhausted",
        "managed_tokens": "reload",
        "parent_owned_tokens": "ask_parent",
    },
    "reload": {"store_changed": "retry", "store_unchanged": "refresh"},
    "refresh": {"refreshed": "retry", "refresh_failed": "exhausted"},
    "ask_parent": {"parent_answered": "retry", "parent_failed": "exhausted"},
    "retry": {},
    "exhausted": {},
}
CELLS = [(state, trigger) for state in EXPECTED for trigger in RECOVERY_TABLE.triggers]
WAYS = {
    "diagnose": [],
    "reload": ["managed_tokens"],
    "refresh": ["managed_tokens", "store_unchanged"],
    "ask_parent": ["parent_owned_tokens"],
    "retry": ["generation_moved_on"],
    "exhausted": ["no_recovery"],
}
"""The triggers that lead to each state."""


class Actions:
    """What the steps of a recovery may do."""

    def __init__(self, state: AuthState, *, reloads: bool = False, error: AuthError | None = None) -> None:
        credentials: dict[AuthState, Credentials] = {
            AuthState.API_KEY: ApiKey.parse("sk-1"),
            AuthState.EXTERNAL_TOKENS: make_external_tokens(),
        }
        self.session = Session(state, credentials.get(state, make_tokens()), None, 4)
        self.reloads = reloads
        self.error = error
        self.calls: list[str] = []

    async def reload(self) -> bool:
        self.calls.append("reload")
        if self.reloads:
            self.session = Session(self.session.state, make_tokens(), None, 5)
        return self.reloads

    async def refresh(self) -> None:
        self._act("refresh")

    async def ask_parent(self) -> None:
        self._act("ask_parent")

    def _act(self, name: str) -> None:
        self.calls.append(name)
        if self.error is not None:
            raise self.error


class Arrived(Exception):
    """A walk has fired its last trigger."""


@pytest.mark.parametrize(("state", "trigger"), CELLS)
async def test_every_cell(state: str, trigger: str) -> None:
    """The steps of this plan only report triggers: those that lead to the state, and then the one of the cell."""
    left = [*WAYS[state], trigger]
    reached: list[str] = []

    async def report(recovery: Recovery) -> str:
        reached.append(recovery.state)
        if not left:
            raise Arrived
        return left.pop(0)

    plan = RecoveryPlan(steps=dict.fromkeys(RECOVERY_TABLE.states, report))
    target = EXPECTED[state].get(trigger)
    with pytest.raises(TransitionRefused if target is None else Arrived) as ended:
        await plan.run(Actions(AuthState.CHATGPT), 4)
    assert reached[len(WAYS[state]) :] == ([state] if target is None else [state, target])
    if isinstance(ended.value, TransitionRefused):
        assert (ended.value.state, ended.value.trigger) == (state, trigger)


def test_every_state_has_a_step_or_is_final() -> None:
    assert set(RECOVERY_TABLE.states) == set(EXPECTED) == set(STEPS) | {"retry", "exhausted"}
    assert RECOVERY_TABLE.finals == ("retry", "exhausted")


DOWN, NO = IssuerUnavailable("503"), ParentUnavailable("no")


@pytest.mark.parametrize(
    ("actions", "generation", "calls", "error"),
    [
        (Actions(AuthState.CHATGPT), 3, [], None),
        (Actions(AuthState.CHATGPT, reloads=True), 4, ["reload"], None),
        (Actions(AuthState.CHATGPT), 4, ["reload", "refresh"], None),
        (Actions(AuthState.REFRESH_DEAD), 4, ["reload", "refresh"], None),
        (Actions(AuthState.CHATGPT, error=DOWN), 4, ["reload", "refresh"], DOWN),
        (Actions(AuthState.EXTERNAL_TOKENS), 4, ["ask_parent"], None),
        (Actions(AuthState.EXTERNAL_TOKENS, error=NO), 4, ["ask_parent"], NO),
    ],
)
async def test_the_ways(actions: Actions, generation: int, calls: list[str], error: AuthError | None) -> None:
    plan = RecoveryPlan()
    if error is None:
        await plan.run(actions, generation)
    else:
        with pytest.raises(type(error)) as raised:
            await plan.run(actions, generation)
        assert raised.value is error
    assert actions.calls == calls


@pytest.mark.parametrize(("state", "says"), [("api_key", "API key"), ("logged_out", "nobody is signed in")])
async def test_no_way(state: str, says: str) -> None:
    with pytest.raises(RecoveryExhausted, match=says):
        await RecoveryPlan().run(Actions(AuthState(state)), 4)


async def test_a_look_during_which_the_tokens_changed_needs_no_refresh() -> None:
    class Busy(Actions):
        async def reload(self) -> bool:
            self.session = Session(AuthState.CHATGPT, make_tokens(), None, 5)
            return await super().reload()

    actions = Busy(AuthState.CHATGPT)
    await RecoveryPlan().run(actions, 4)
    assert actions.calls == ["reload"]


async def test_a_look_during_which_the_refresh_token_died_is_no_news() -> None:
    class Dying(Actions):
        async def reload(self) -> bool:
            self.session = Session(AuthState.REFRESH_DEAD, self.session.credentials, Failure("dead"), 5)
            return await super().reload()

    actions = Dying(AuthState.CHATGPT, error=DOWN)
    with pytest.raises(IssuerUnavailable):
        await RecoveryPlan().run(actions, 4)


async def test_a_mode_is_added_with_rows_and_steps_and_no_change_of_the_loop() -> None:
    rows = [row for row in RECOVERY_TABLE.rows if row.trigger != "no_recovery"]
    table = Table(
        name="recovery",
        title="401 recovery",
        states=(*RECOVERY_TABLE.states, "ask_vault"),
        initial="diagnose",
        rows=(
            *rows,
            Row("no_recovery", ("diagnose",), "ask_vault", "an API key: the vault may have a newer one"),
            Row("vault_answered", ("ask_vault",), "retry", ""),
            Row("vault_empty", ("ask_vault",), "exhausted", ""),
        ),
    )
    vault = [ApiKey.parse("sk-2")]

    async def ask_vault(recovery: Recovery) -> str:
        recovery.error = None
        if not vault:
            return "vault_empty"
        await engine.use_api_key(vault.pop())
        return "vault_answered"

    plan = RecoveryPlan(table, {**STEPS, "ask_vault": ask_vault})
    engine = AuthEngine(MemoryStore(ApiKey.parse("sk-1")), FakeAuthority(), recovery=plan)
    await engine.start()
    second = await engine.recover(await engine.authorization())
    assert second.token.reveal() == "sk-2"
    with pytest.raises(RecoveryExhausted, match="nothing is left to try"):
        await engine.recover(second)


async def test_the_end_of_the_engine_ends_a_recovery_whatever_it_waits_for() -> None:
    asked, never = asyncio.Event(), asyncio.Event()

    async def wait(recovery: Recovery) -> str:
        asked.set()
        await never.wait()
        return "no_recovery"

    plan = RecoveryPlan(steps={"diagnose": wait})
    engine = AuthEngine(MemoryStore(ApiKey.parse("sk-1")), FakeAuthority(), recovery=plan)
    await engine.start()
    waiting = asyncio.create_task(engine.recover(await engine.authorization()))
    await asked.wait()
    await engine.close()
    with pytest.raises(RefreshInterrupted):
        await waiting


@pytest.mark.parametrize("stored", [make_tokens(), ApiKey.parse("sk-1")])
@pytest.mark.parametrize("moved_on", [False, True])
async def test_a_closed_engine_recovers_nobody(stored: Credentials, moved_on: bool) -> None:
    authority = FakeAuthority()
    engine = AuthEngine(MemoryStore(stored), authority)
    await engine.start()
    refused = await engine.authorization()
    if moved_on:
        refused = msgspec.structs.replace(refused, token=Secret("older"), generation=0)
    await engine.close()
    with pytest.raises(EngineClosed):
        await engine.recover(refused)
    assert authority.sent == []


async def test_an_engine_that_is_closed_during_a_recovery_starts_no_second_one() -> None:
    tokens = make_tokens(expires_in=-1)
    authority = FakeAuthority(tokens)
    closing: list[asyncio.Task[None]] = []

    async def answer_and_close(recovery: Recovery) -> str:
        closing.append(asyncio.create_task(engine.close()))
        return "generation_moved_on"  # but the tokens in use have expired still

    engine = AuthEngine(MemoryStore(tokens), authority, recovery=RecoveryPlan(steps={"diagnose": answer_and_close}))
    await engine.start()
    with pytest.raises(EngineClosed):
        await engine.recover(Authorization.of(engine.session))
    await closing.pop()
    assert (closing, authority.sent) == ([], [])
