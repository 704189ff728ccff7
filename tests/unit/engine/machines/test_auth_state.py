"""The machine that runs any table, and what the auth machine checks before it fires."""

import pytest

from authstate.engine.machines.auth_state import AuthMachine
from authstate.engine.machines.table import Row, Table, TableMachine
from authstate.engine.model.credentials import ApiKey
from authstate.engine.model.errors import (
    AuthError,
    ExternalTokensActive,
    LoginMethodForbidden,
    NotSignedIn,
    TransitionRefused,
)
from authstate.engine.model.events import Listeners
from authstate.engine.model.policy import LoginMethod, Policy
from authstate.engine.model.states import Trigger
from authstate.testing import make_external_tokens, make_tokens

LIGHT = Table(
    name="light",
    title="Light",
    states=("red", "green", "off"),
    initial="red",
    rows=(
        Row("go", ("red",), "green", "", guard="clear", effect="note"),
        Row("stop", ("green", "red"), "red", ""),
        Row("end", ("red",), "off", "", effect="note"),
    ),
)


class Light:
    def __init__(self) -> None:
        self.state = "red"
        self.notes: list[object] = []
        self.obstacle: AuthError | None = None

    def note(self, content: object) -> None:
        self.notes.append((self.state, content))


MACHINE = TableMachine(
    LIGHT,
    guards={"clear": lambda light, content: light.obstacle},
    effects={"note": lambda light, content: light.note(content)},
)


def test_a_table_is_read() -> None:
    assert LIGHT.triggers == ("go", "stop", "end")
    assert LIGHT.finals == ("off",)
    assert LIGHT.target("green", "stop") == "red"
    assert LIGHT.target("green", "go") is None
    assert LIGHT.target("green", "fly") is None


def test_one_machine_serves_many_models() -> None:
    one, other = Light(), Light()
    MACHINE.fire(one, "go", "now")
    assert (one.state, other.state) == ("green", "red")
    assert one.notes == [("red", "now")]
    MACHINE.fire(one, "stop")
    assert one.state == "red"


@pytest.mark.parametrize("trigger", ["go", "fly", "to_off", "end"])
def test_what_no_row_allows_is_refused(trigger: str) -> None:
    light = Light()
    light.state = "green"
    with pytest.raises(TransitionRefused, match="is not possible while the state is 'green'") as refusal:
        MACHINE.fire(light, trigger)
    assert (refusal.value.trigger, refusal.value.state) == (trigger, "green")
    assert refusal.value.__cause__ is None
    assert (light.state, light.notes) == ("green", [])


def test_a_guard_refuses_with_its_own_error() -> None:
    light = Light()
    light.obstacle = NotSignedIn("a cat")
    with pytest.raises(NotSignedIn, match="a cat"):
        MACHINE.fire(light, "go")
    assert (light.state, light.notes) == ("red", [])
    light.obstacle = None
    MACHINE.fire(light, "go")
    assert light.state == "green"


def test_effects_may_be_left_out() -> None:
    light = Light()
    TableMachine(LIGHT, guards={"clear": lambda *_: None}).fire(light, "go")
    assert (light.state, light.notes) == ("green", [])


def test_a_check_raises_what_fire_would_and_changes_nothing() -> None:
    machine = AuthMachine(Policy(LoginMethod.CHATGPT), Listeners())
    before = machine.session
    machine.check(Trigger.COMPLETE_CHATGPT_LOGIN, make_tokens())
    with pytest.raises(LoginMethodForbidden):
        machine.check(Trigger.USE_API_KEY, ApiKey.parse("sk-1"))
    with pytest.raises(TransitionRefused):
        machine.check(Trigger.TOKENS_REFRESHED, make_tokens())
    assert machine.session is before
    machine.fire(Trigger.USE_EXTERNAL_TOKENS, make_external_tokens())
    with pytest.raises(ExternalTokensActive, match="account/login/start"):
        machine.check(Trigger.COMPLETE_CHATGPT_LOGIN, make_tokens())


def test_after_a_refusal_the_machine_goes_on() -> None:
    machine = AuthMachine(Policy(LoginMethod.CHATGPT), Listeners())
    with pytest.raises(LoginMethodForbidden):
        machine.fire(Trigger.USE_API_KEY, ApiKey.parse("sk-1"))
    tokens = make_tokens()
    assert machine.fire(Trigger.COMPLETE_CHATGPT_LOGIN, tokens).credentials is tokens
    assert machine.session.generation == 1
