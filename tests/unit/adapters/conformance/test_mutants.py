"""Each fault of a small server is found, by the check that is about it."""

import sys
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from support import paths

from authstate.adapters.conformance import tokens
from authstate.adapters.conformance.actions import Ending, Outcome, play
from authstate.adapters.conformance.history import Setting
from authstate.adapters.conformance.search import search
from authstate.engine.model.states import AuthState
from authstate.testing import LoopbackIssuer

SERVER = paths.REPO / "tests" / "support" / "account_server.py"
KEY = ("api-key",)
REFRESH = ("given-chatgpt", "start", "refresh")
DEAD = ("given-chatgpt", "start", "refresh-rejected")
REFUSED = ("external", "api-key")
LIMITS = ("given-chatgpt", "start", "limits-after-401")
OF_PARENT = ("external", "limits-after-401")
BAD = ("start", "bad-requests")

FAULTS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("tells in the wrong order", KEY, "login/api-key/order"),
    ("tells before it answers", KEY, "login/api-key/order"),
    ("does not tell of a login", KEY, "login/api-key/order"),
    ("does not store a login", KEY, "login/api-key/stored"),
    ("stores for everybody", KEY, "store/private"),
    ("keeps a copy", KEY, "secrets/none-in-files"),
    ("logs the key", KEY, "secrets/none-in-output"),
    ("shows the token", KEY, "secrets/none-in-output"),
    ("writes other lines", KEY, "answers/shape"),
    ("accepts a blank key", ("api-key", "blank-key"), "input/blank-key"),
    ("forgets the stored login", ("api-key", "restart"), "start/restored"),
    ("forgets the stored login", ("api-key", "kill"), "start/after-kill"),
    ("keeps the file after a logout", ("api-key", "log-out"), "logout/nothing-left"),
    ("keeps the session after a logout", ("api-key", "log-out"), "logout/read-back"),
    ("refreshes twice", REFRESH, "refresh/no-token-twice"),
    ("does not store a refresh", REFRESH, "refresh/new-tokens"),
    ("never refreshes", REFRESH, "refresh/new-tokens"),
    ("drops unknown members", REFRESH, "store/unknown-members"),
    ("sends a dead token again", DEAD, "refresh/permanent/never-retried"),
    ("shows a dead login", DEAD, "refresh/permanent/shown"),
    ("stores external tokens", ("external",), "login/external/not-stored"),
    ("shows another person", ("external",), "login/external/read-back"),
    ("stores a refused login", REFUSED, "login/refused/changes-nothing"),
    ("ignores the policy", ("forced-chatgpt", "api-key"), "login/refused/policy"),
    ("ignores the workspace", ("forced-workspace", "external"), "login/refused/policy"),
    ("ignores the workspace of a device login", ("forced-workspace", "device"), "login/device/workspace"),
    ("uses a forbidden login", ("given-chatgpt", "start", "forced-workspace"), "start/policy"),
    ("gives up at a 401", LIMITS, "recovery/refreshed"),
    ("gives up at a 401", OF_PARENT, "recovery/parent-asked"),
    ("refreshes without end", ("given-chatgpt", "start", "limits-always-401"), "recovery/ends"),
    ("refreshes without end", ("external", "limits-always-401"), "recovery/ends"),
    ("refreshes what another process refreshed", (*LIMITS[:2], "limits-401-reloaded"), "recovery/reloaded"),
    ("shows a dead login", (*LIMITS[:2], "limits-401-rejected"), "refresh/permanent/shown"),
    ("gives up at a 401", (*LIMITS[:2], "limits-401-rejected"), "recovery/rejected"),
    ("ends a login for a passing error", (*LIMITS[:2], "limits-401-transient"), "recovery/transient"),
    ("takes any workspace of the parent", ("external", "parent-other-workspace"), "recovery/parent-workspace"),
    ("signs out if the parent refuses", ("external", "parent-refuses"), "recovery/parent-refuses"),
    ("hangs at getAuthStatus", ("start",), "answers/in-time"),
    ("ends at account/login/start", KEY, "answers/in-time"),
    ("uses another code", BAD, "input/unknown-method"),
    ("is silent about bad lines", ("start", "not-json"), "input/not-json"),
    ("needs no initialize", ("start-uninitialized",), "start/not-initialized"),
    ("is initialized twice", ("start-uninitialized",), "start/initialize-twice"),
)


class Player:
    """Plays histories on the small server."""

    def __init__(self, issuer: LoopbackIssuer, folder: Path) -> None:
        self._issuer, self._folder, self._numbers = issuer, folder, count()

    def play(self, fault: str, actions: Sequence[str], avoid: Collection[Ending] = ()) -> Outcome:
        # The server writes every notification before its next answer, so none is waited for.
        # One that hangs is not waited for: whatever does not answer at once fails the same check.
        patience = 0.2 if fault.startswith("hangs") else 30.0
        setting = Setting((sys.executable, "-S", str(SERVER), fault), self._issuer, self._folder, patience, 0.0)
        return play(setting, next(self._numbers), actions, avoid)


@pytest.fixture(scope="module")
def player(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Player]:
    with LoopbackIssuer() as issuer:
        yield Player(issuer, tmp_path_factory.mktemp("homes"))


@pytest.mark.parametrize(("fault", "actions", "check"), FAULTS, ids=[f"{fault}-{check}" for fault, _, check in FAULTS])
def test_the_fault_is_found_and_named(fault: str, actions: tuple[str, ...], check: str, player: Player) -> None:
    outcome = player.play(fault, actions)
    assert set(outcome.failed) == {check}, outcome.failed


@pytest.mark.parametrize("actions", sorted({actions for _, actions, _ in FAULTS}), ids=",".join)
def test_the_server_without_a_fault_passes(actions: tuple[str, ...], player: Player) -> None:
    outcome = player.play("none", actions)
    assert outcome.failed == {} and outcome.actions == actions


# The small server looks for no other process, and has no browser login.
_HAS_NOT = ("other-key", "other-login", "other-account", "other-logout", "browser", "browser-other-account")
KNOWN = [
    Outcome((), frozenset(), {}, frozenset(), (), "", ending=(state, name)) for state in AuthState for name in _HAS_NOT
]


def test_generated_histories_find_a_fault_and_shrink_it(player: Player) -> None:
    fault = "keeps the file after a logout"
    found = [one for one in search(partial(player.play, fault), KNOWN, runs=12, steps=6, start=3) if one.failed]
    assert {name for outcome in found for name in outcome.failed} == {"logout/nothing-left"}
    failure = found[0]
    assert len(failure.actions) <= 3
    assert player.play(fault, failure.actions).failed == failure.failed  # as `--history` replays it


def test_a_transcript_shows_no_secret(player: Player) -> None:
    outcome = player.play("shows the token", KEY)
    text = "\n".join(line for _, line in outcome.transcript) + str(outcome.failed)
    assert "<api-key 1>" in text
    assert "sk-verify" not in text


def test_a_server_that_ends_answers_nothing(player: Player) -> None:
    setting = Setting((sys.executable, "-c", "pass"), player._issuer, player._folder)
    outcome = play(setting, next(player._numbers), KEY)
    assert set(outcome.failed) == {"answers/in-time"}


def test_a_refresh_that_never_begins_is_not_waited_for_without_end(
    player: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "monotonic", count(0.0, 1000.0).__next__)
    outcome = player.play("never refreshes", ("given-chatgpt", "start", "refresh-killed"))
    assert outcome.failed == {"refresh/new-tokens": "no refresh token was sent to the issuer"}
