"""`authstate app-server` passes every check. Few long histories take the place of many short ones, to save starts."""

import sys
from collections.abc import Iterator
from itertools import count

import pytest

from authstate.adapters.conformance.actions import Outcome, play
from authstate.adapters.conformance.checks import CHECKS
from authstate.adapters.conformance.history import Setting
from authstate.adapters.conformance.scenarios import CELLS, UNREACHABLE
from authstate.adapters.conformance.search import search
from authstate.testing import LoopbackIssuer

_NOBODY = ("start", "bad-requests", "no-params", "not-json", "cancel-unknown", "limits", "refresh", "refresh-rejected")
_KEY = ("log-out", "api-key", "log-out", "api-key", "refresh", "refresh-rejected", "limits", "blank-key", "api-key")
_EXTERNAL = (
    "external",
    "api-key",
    "browser",
    "refresh",
    "limits",
    "limits-after-401",
    "parent-refuses",
    "external",
    "limits-always-401",
    "external-other-account",
    "limits",
)
_CHATGPT = (
    "log-out",
    "browser",
    "refresh",
    "limits",
    "limits-after-401",
    "limits-always-401",
    "limits-401-reloaded",
    "limits-401-rejected",
    "browser",
    "limits-401-transient",
    "refresh-transient",
    "browser-other-account",
    "api-key",
)
_DEAD = ("browser", "refresh-rejected", "refresh", "refresh-rejected")

LONG: tuple[tuple[str, ...], ...] = (
    (*_NOBODY, *_KEY, *_EXTERNAL, *_CHATGPT, "browser", "external", "log-out", *_DEAD, "browser", "kill"),
    (*_DEAD, "api-key", *_DEAD, "external", "log-out", *_DEAD, "other-login", *_DEAD, "log-out", "external-no-jwt"),
    ("start", "other-key", "other-account", "other-logout", "other-login", "restart", "browser-declined"),
    ("browser-cancelled", "browser-pending", "browser", "browser-pending", "external-0.93", "external-0.169"),
)
SHORT: tuple[tuple[str, ...], ...] = (
    ("start-uninitialized",),
    ("given-corrupt", "api-key"),
    ("given-expired", "refresh-expired", "refresh"),
    ("given-chatgpt", "start", "refresh-killed"),
    ("external", "parent-other-workspace"),
    ("device", "forced-workspace", "device", "browser", "browser-other-account", "unforced", "browser-pending"),
    ("given-key-forbidden", "api-key"),
    ("forced-api", "browser", "external", "api-key", "other-account"),
    ("forced-chatgpt", "given-chatgpt", "start", "other-key"),
    ("forced-chatgpt", "given-chatgpt", "refresh-rejected", "other-key"),
    ("forced-workspace", "external"),
)
ONLY_SLOW = {"recovery/parent-late"}
"""Checks that wait for a time limit of the server."""


class AppServer:
    """Plays histories on `authstate app-server`, and keeps the outcomes."""

    def __init__(self, setting: Setting) -> None:
        self.outcomes: dict[tuple[str, ...], Outcome] = {}
        self._setting, self._numbers = setting, count()

    def play(self, actions: tuple[str, ...]) -> Outcome:
        if actions not in self.outcomes:
            self.outcomes[actions] = play(self._setting, next(self._numbers), actions)
        return self.outcomes[actions]


@pytest.fixture(scope="module")
def app_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppServer]:
    command = (sys.executable, "-m", "authstate.adapters.cli", "app-server")
    with LoopbackIssuer() as issuer:
        yield AppServer(Setting(command, issuer, tmp_path_factory.mktemp("homes"), patience=60.0, grace=60.0))


@pytest.mark.parametrize("actions", (*LONG, *SHORT), ids=lambda actions: f"{'-'.join(actions[:3])}-{len(actions)}")
def test_no_check_fails(actions: tuple[str, ...], app_server: AppServer) -> None:
    outcome = app_server.play(actions)
    assert outcome.failed == {}
    assert (outcome.actions, outcome.not_applicable) == (actions, None)


def test_these_histories_reach_every_check_and_every_cell(app_server: AppServer) -> None:
    outcomes = [app_server.play(actions) for actions in (*LONG, *SHORT)]
    assert frozenset().union(*(outcome.covered for outcome in outcomes)) == set(CELLS) - UNREACHABLE.keys()
    assert frozenset().union(*(outcome.passed for outcome in outcomes)) == CHECKS.keys() - ONLY_SLOW


def test_generated_histories_pass(app_server: AppServer) -> None:
    outcomes = search(lambda actions, _: app_server.play(tuple(actions)), [], runs=4, steps=10, start=1)
    assert outcomes
    assert [outcome.failed for outcome in outcomes] == [{}] * len(outcomes)
