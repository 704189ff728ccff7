"""Windows that share one login, with the oldest and the newest codex: what one does, or suffers, and the other sees."""

import json
import os
import signal
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from time import monotonic, time

import pytest
from interop.test_wrap import Agent, message_of
from support.codex_binaries import NEW, OLD
from support.codex_turns import model_config, thread_params, turn_params
from support.real_parts import RealParts
from support.wire_client import Message
from support.wrapped import WRAP

from authstate.adapters.testing.auth_json import chatgpt_auth_json
from authstate.testing import LoopbackIssuer

MakeHome = Callable[..., Path]
LIFETIME = 8.0
"""Seconds that tokens live which are to expire in a test."""
MODEL = "/backend-api/codex/responses"
LONG = 120.0
"""Seconds for which the model keeps a turn waiting; the turn is to end before."""


class Windows:
    """Wrapped agents on one home."""

    def __init__(self, codex: Path, home: Path, issuer: LoopbackIssuer) -> None:
        self.home = home
        self.codex = codex
        self._issuer = issuer
        self._open: list[Agent] = []

    def open(self) -> Agent:
        """One more."""
        agent = Agent([*WRAP, str(self.codex)], self.home, self._issuer)
        self._open.append(agent)
        return agent

    def close(self) -> None:
        """End all of them."""
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda agent: agent.__exit__(), self._open))


@pytest.fixture
def windows(
    request: pytest.FixtureRequest, real_parts: RealParts, make_home: MakeHome, issuer: LoopbackIssuer
) -> Iterator[Windows]:
    """A signed-in person's windows; the test names the releases."""
    login = {"email": "person@example.com", "next_expires_in": 3600}
    opened = Windows(real_parts.codex(request.param), make_home(**login, config=model_config(issuer)), issuer)
    yield opened
    opened.close()


both = pytest.mark.parametrize("windows", [OLD, "newest"], indirect=True)


def until_asked(issuer: LoopbackIssuer, agent: Agent, number: int, what: str = MODEL) -> None:
    """Wait until so many requests of a kind have arrived."""
    deadline = monotonic() + 60
    while issuer.stats()["requests"].get(what, 0) < number:
        assert monotonic() < deadline, f"{what} was not asked {number} times"
        agent.drain(0.02)


def spent(issuer: LoopbackIssuer) -> tuple[int, int]:
    stats = issuer.stats()
    return stats["refreshes_accepted"], stats["refreshes_refused"]


class TestAChangeOfTheLogin:
    """From 0.169.0 on a child that loses its login ends its running turns with words that explain nothing."""

    @pytest.mark.parametrize("windows", [NEW], indirect=True)
    def test_a_sign_out_in_another_window(self, windows: Windows, issuer: LoopbackIssuer) -> None:
        one, other = windows.open(), windows.open()
        issuer.behave("model", mode="normal", delay=LONG, times=1)
        begun = other.begin("hello")
        until_asked(issuer, other, 1)
        one.result("account/logout")
        turn = other.completed(begun)
        assert message_of(turn) == (
            "The account was signed out, here or in another window, while this turn ran. Sign in, then send the "
            "message again."
        )
        assert turn["error"]["codexErrorInfo"] == "unauthorized"
        errors = [one["params"]["error"] for one in other.received[begun:] if one.get("method") == "error"]
        assert errors
        assert {error["message"] for error in errors} == {turn["error"]["message"]}

    @pytest.mark.parametrize("windows", ["newest"], indirect=True)
    def test_another_account(self, windows: Windows, issuer: LoopbackIssuer) -> None:
        one, other = windows.open(), windows.open()
        issuer.behave("model", mode="normal", delay=LONG, times=1)
        begun = other.begin("hello")
        until_asked(issuer, other, 1)
        login = one.result("account/login/start", {"type": "chatgptDeviceCode"})
        issuer.approve_device(login["userCode"], email="second@example.com", account_id="org-2")
        turn = other.completed(begun)
        message = message_of(turn)
        assert message.startswith("Another account was signed in, here or in another window, while this turn ran")
        assert "second@example.com" in message
        assert turn["error"]["codexErrorInfo"] == "other"
        assert other.turn("hello again")["status"] == "completed"


def test_the_turn_reports_the_issuers_503(real_parts: RealParts, make_home: MakeHome, issuer: LoopbackIssuer) -> None:
    """Both releases at once: a question for tokens is answered after nine seconds."""
    issuer.expire_access()

    def failed(version: str) -> Message:
        home = make_home(email="person@example.com", config=model_config(issuer))
        issuer.expire_access()
        with Agent([*WRAP, str(real_parts.codex(version))], home, issuer) as agent:
            return agent.turn("hello")

    issuer.behave("refresh", mode="status", status=503)
    with ThreadPoolExecutor(2) as pool:
        for turn in pool.map(failed, (OLD, "newest")):
            message = message_of(turn)
            assert "answered with status 503" in message
            assert "try again" in message
            assert "did not come in time" not in message
            assert turn["error"]["codexErrorInfo"] == "other"
    assert issuer.stats()["refreshes_refused"] == 0


@both
def test_two_turns_the_second_of_which_is_refused_late(windows: Windows, issuer: LoopbackIssuer) -> None:
    agent = windows.open()
    late = agent.result("thread/start", thread_params(windows.home))["thread"]["id"]
    issuer.hold("model", times=1)
    issuer.expire_access()
    begun = len(agent.received)
    agent.result("turn/start", turn_params(late, "late"))
    until_asked(issuer, agent, 1)
    assert agent.turn("early")["status"] == "completed"
    assert spent(issuer) == (1, 0)
    issuer.release("model")

    def completed() -> list[Message]:
        told = (one["params"] for one in agent.received[begun:] if one.get("method") == "turn/completed")
        return [params["turn"] for params in told if params["threadId"] == late]

    agent.wait_until(lambda: bool(completed()), timeout=90)
    assert [turn["status"] for turn in completed()] == ["completed"]
    assert spent(issuer) == (1, 0)


def test_windows_that_were_idle_until_all_tokens_had_expired(
    real_parts: RealParts, make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    """Both releases at once: the tokens live for some seconds."""

    def idle(version: str) -> list[str]:
        login = {"email": "person@example.com", "next_expires_in": LIFETIME}
        opened = Windows(real_parts.codex(version), make_home(**login, config=model_config(issuer)), issuer)
        one, other = opened.open(), opened.open()
        ready.wait(150)
        ended = [one.turn("hello")["status"]]
        ready.wait(150)
        issuer.expire_access()
        ready.wait(150)
        ended.append(other.turn("hello")["status"])
        until_expired(opened.home, one)
        ended += [agent.turn("back again")["status"] for agent in (one, other)]
        opened.close()
        return ended

    ready = Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        for ended in pool.map(idle, (OLD, "newest")):
            assert ended == ["completed"] * 4
    assert issuer.stats()["refreshes_refused"] == 0


def until_expired(home: Path, agent: Agent) -> None:
    """Let an agent be idle until the stored access token has expired."""
    claims = json.loads((home / "auth.json").read_text())["tokens"]["access_token"].split(".")[1]
    expires_at = json.loads(urlsafe_b64decode(claims + "=="))["exp"]
    while time() <= expires_at:
        agent.drain(0.2)


class TestKilledInTheMiddleOfARefresh:
    """`wrap` ends by SIGKILL between the request and its answer."""

    def kill(self, windows: Windows, issuer: LoopbackIssuer) -> None:
        victim = windows.open()
        issuer.expire_access()
        victim.begin("hello")
        until_asked(issuer, victim, 1, "/oauth/token")
        os.kill(victim.process.pid, signal.SIGKILL)
        victim.process.wait(timeout=60)

    @pytest.mark.parametrize("windows", ["newest"], indirect=True)
    def test_the_issuer_had_spent_the_token(self, windows: Windows, issuer: LoopbackIssuer) -> None:
        issuer.hold("refresh", "answer", times=1)
        self.kill(windows, issuer)
        agent = windows.open()
        until_spent(issuer, agent)
        message = message_of(agent.turn("what happened"))
        assert "ended in the middle of a refresh" in message
        assert "authstate login" in message
        assert "machine" not in message
        assert agent.result("account/read")["account"] is None
        assert spent(issuer) == (1, 1)
        login = agent.result("account/login/start", {"type": "chatgptDeviceCode"})
        issuer.approve_device(login["userCode"], email="person@example.com")
        assert agent.until("account/updated")["authMode"] == "chatgpt"
        assert agent.turn("signed in again")["status"] == "completed"

    @both
    def test_the_issuer_had_not(self, windows: Windows, issuer: LoopbackIssuer) -> None:
        issuer.behave("refresh", mode="hang", times=1)
        self.kill(windows, issuer)
        agent = windows.open()
        assert agent.result("account/read")["account"]["email"] == "person@example.com"
        assert agent.turn("as if nothing had happened")["status"] == "completed"
        assert spent(issuer) == (1, 0)


def until_spent(issuer: LoopbackIssuer, agent: Agent) -> None:
    """Wait until the issuer has taken a refresh token."""
    deadline = monotonic() + 60
    while not issuer.stats()["refreshes_accepted"]:
        assert monotonic() < deadline
        agent.drain(0.02)


class TestNewestRelease:
    """Members of the newest account API, compared with what that codex tells when it owns the login."""

    @pytest.mark.parametrize("windows", ["newest"], indirect=True)
    def test_the_list_of_accounts_and_the_reason_of_an_update(self, windows: Windows, issuer: LoopbackIssuer) -> None:
        alone = Agent([str(windows.codex)], windows.home, issuer)
        alone.wait_until(lambda: bool(told(alone)))
        expected = [alone.result("accountSession/list", {})]
        alone.result("account/logout")
        expected.append(alone.result("accountSession/list", {}))
        updates = told(alone)
        alone.__exit__()
        fill_again(windows.home, issuer)
        agent = windows.open()
        listed = [agent.result("accountSession/list", {})]
        agent.result("account/logout")
        listed.append(agent.result("accountSession/list", {}))
        agent.drain(0.2, after=lambda: len(told(agent)) >= len(updates))
        assert [without_time(one) for one in listed] == [without_time(one) for one in expected]
        assert told(agent) == updates
        assert [update["reason"] for update in updates] == ["workspaceRoutingReady", None]

    @pytest.mark.parametrize("windows", [OLD], indirect=True)
    def test_an_older_release_gets_only_what_it_knows(self, windows: Windows) -> None:
        agent = windows.open()
        assert agent.call("accountSession/list", {})["error"]["code"] == -32600
        agent.result("account/logout")
        agent.drain(0.2, after=lambda: bool(told(agent)))
        assert told(agent) == [{"authMode": None, "planType": None}]


def told(agent: Agent) -> list[Message]:
    return [one["params"] for one in agent.received if one.get("method") == "account/updated"]


def fill_again(home: Path, issuer: LoopbackIssuer) -> None:
    """Sign the person in anew."""
    (home / "auth.json").write_text(json.dumps(chatgpt_auth_json(issuer.seed(email="person@example.com"))))


def without_time(listed: Message) -> Message:
    sessions = [{name: one for name, one in session.items() if name != "lastUsedAt"} for session in listed["sessions"]]
    return {**listed, "sessions": sessions}
