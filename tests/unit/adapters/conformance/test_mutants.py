"""Each fault of a small server is found, by the check that is about it."""

import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from support import paths

from authstate.adapters.conformance import tokens
from authstate.adapters.conformance.actions import Outcome, play
from authstate.adapters.conformance.history import Setting
from authstate.testing import LoopbackIssuer

SERVER = paths.REPO / "tests" / "support" / "account_server.py"
KEY = ("api-key",)
REFRESH = ("given-chatgpt", "start", "refresh")
DEAD = ("given-chatgpt", "start", "refresh-rejected")
REFUSED = ("external", "api-key")
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
    ("uses another code", BAD, "input/unknown-method"),
    ("is silent about bad lines", ("start", "not-json"), "input/not-json"),
    ("needs no initialize", ("start-uninitialized",), "start/not-initialized"),
    ("is initialized twice", ("start-uninitialized",), "start/initialize-twice"),
)


class Player:
    """Plays histories on the small server."""

    def __init__(self, issuer: LoopbackIssuer, folder: Path) -> None:
        self._issuer, self._folder, self._numbers = issuer, folder, count()

    def play(self, fault: str, actions: tuple[str, ...]) -> Outcome:
        # The server writes every notification before its next answer, so none is waited for.
        setting = Setting((sys.executable, "-S", str(SERVER), fault), self._issuer, self._folder, grace=0.0)
        return play(setting, next(self._numbers), actions)


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
