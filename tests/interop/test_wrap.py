"""`authstate wrap` with the real codex: whole turns on one login, whatever happens to it, and without it."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.codex_turns import model_config, thread_params, turn_params
from support.wire_client import INITIALIZE, Message, WireClient, clean_environment
from support.wrapped import WRAP

from authstate.testing import LoopbackIssuer

MakeHome = Callable[..., Path]
AGENTS = 8


class Agent(WireClient):
    """A front-end with one thread: it runs turns."""

    def __init__(self, command: Sequence[str], home: Path, issuer: LoopbackIssuer) -> None:
        super().__init__(command, clean_environment(home, **issuer.environment))
        self.home = home
        self.result("initialize", INITIALIZE)
        self.send({"method": "initialized"})
        self.thread = self.result("thread/start", thread_params(home))["thread"]["id"]

    def turn(self, words: str) -> Message:
        """Run a turn; the turn as it was completed."""
        return self.completed(self.begin(words))

    def begin(self, words: str) -> int:
        """Start a turn. Returns what `completed` wants."""
        before = len(self.received)
        self.result("turn/start", turn_params(self.thread, words))
        return before

    def completed(self, begun: int) -> Message:
        """The turn that was begun there, as it was completed."""

        def turns() -> list[Message]:
            return [one["params"]["turn"] for one in self.received[begun:] if one.get("method") == "turn/completed"]

        self.wait_until(lambda: bool(turns()), timeout=90)
        assert turns(), f"no turn was completed: {self.received[begun:]}"
        return turns()[0]


@pytest.fixture
def start(codex: Path, issuer: LoopbackIssuer) -> Iterator[Callable[..., Agent]]:
    """Starts agents: `start(home)` is wrapped, `start(home, ())` is the codex itself."""
    running: list[Agent] = []

    def begin(home: Path, before: Sequence[str] = WRAP) -> Agent:
        agent = Agent([*before, str(codex)], home, issuer)
        running.append(agent)
        return agent

    yield begin
    with ThreadPoolExecutor(AGENTS) as pool:
        list(pool.map(lambda agent: agent.__exit__(), running))


@pytest.fixture
def home(make_home: MakeHome, issuer: LoopbackIssuer) -> Path:
    """A home with a ChatGPT login, a model, and the user's name for both."""
    return make_home(email="person@example.com", config=model_config(issuer))


def message_of(turn: Message) -> str:
    assert turn["status"] == "failed", turn
    message: str = turn["error"]["message"]
    return message


def of_the_login(told: list[Message]) -> list[Message]:
    return [one for one in told if one.get("method", "").startswith(("account/login", "account/updated"))]


def test_a_turn_whose_token_expires_in_the_middle(
    start: Callable[..., Agent], home: Path, issuer: LoopbackIssuer
) -> None:
    agent = start(home)
    assert agent.turn("use a tool, then expire")["status"] == "completed"
    assert agent.turn("and again")["status"] == "completed"
    stats = issuer.stats()
    assert (stats["refreshes_accepted"], stats["refreshes_refused"]) == (1, 0)
    assert agent.result("account/read")["account"]["email"] == "person@example.com"
    assert agent.result("getAuthStatus")["authMethod"] == "chatgpt"
    assert of_the_login(agent.received) == []


def run_everywhere(agents: list[Agent], words: str) -> list[str]:
    with ThreadPoolExecutor(AGENTS) as pool:
        return [turn["status"] for turn in pool.map(lambda agent: agent.turn(words), agents)]


def test_agents_whose_tokens_are_refused_at_once_cost_one_refresh(
    start: Callable[..., Agent], home: Path, issuer: LoopbackIssuer
) -> None:
    with ThreadPoolExecutor(2) as pool:
        agents = list(pool.map(lambda _: start(home), range(AGENTS)))
    assert run_everywhere(agents, "hello") == ["completed"] * AGENTS
    issuer.expire_access()
    assert run_everywhere(agents, "hello again") == ["completed"] * AGENTS
    stats = issuer.stats()
    assert (stats["refreshes_accepted"], stats["refreshes_refused"]) == (1, 0)


def test_the_same_without_wrap_is_the_control(start: Callable[..., Agent], home: Path, issuer: LoopbackIssuer) -> None:
    """As many codex on one home, refused at once: refresh tokens are used twice. If it fails one day, wrap is moot."""
    issuer.hold("refresh")
    with ThreadPoolExecutor(2) as pool:
        agents = list(pool.map(lambda _: start(home, ()), range(AGENTS)))
    issuer.expire_access()
    with ThreadPoolExecutor(1) as pool:
        turns = pool.submit(run_everywhere, agents, "hello")
        while len(issuer.stats()["refresh_tokens_sent"]) < 2:  # each look is a round trip to the issuer
            assert not turns.done()
        issuer.release("refresh")
        turns.result()
    assert issuer.stats()["refreshes_refused"] > 0


def test_a_turn_with_an_api_key(start: Callable[..., Agent], make_home: MakeHome, issuer: LoopbackIssuer) -> None:
    """The child acts with the key itself: a backend that knows nothing else answers. One that is stored, and one given
    in the place of a ChatGPT login.
    """
    for stored in ({}, {"email": "person@example.com"}):
        key = issuer.seed()["access_token"]
        auth = {"auth": {"auth_mode": "apikey", "OPENAI_API_KEY": key}}
        agent = start(make_home(**(stored or auth), config=model_config(issuer)))
        if stored:
            issuer.expire_access()
            key = issuer.seed()["access_token"]
            agent.result("account/login/start", {"type": "apiKey", "apiKey": key})
        assert agent.turn("hello")["status"] == "completed"
        assert agent.result("account/read")["account"] == {"type": "apiKey"}
    assert issuer.stats()["refreshes_accepted"] == 0


def test_logging_out_while_turns_run(start: Callable[..., Agent], home: Path, issuer: LoopbackIssuer) -> None:
    agent = start(home)
    issuer.behave("model", mode="normal", delay=1.0, times=1)
    begun = agent.begin("hello")
    agent.result("account/logout")
    assert agent.completed(begun)["status"] in ("completed", "failed")
    assert agent.result("account/read")["account"] is None
    assert not (home / "auth.json").exists()
    assert agent.turn("anybody?")["status"] == "failed"
    agent.result("account/login/start", {"type": "apiKey", "apiKey": "sk-wrap-1"})
    assert agent.result("account/read")["account"] == {"type": "apiKey"}
    agent.wait_until(lambda: len(of_the_login(agent.received)) >= 3)
    told = [one["method"] for one in of_the_login(agent.received)]
    assert told == ["account/updated", "account/login/completed", "account/updated"]


def test_signing_out_in_one_window_signs_out_of_all(
    start: Callable[..., Agent], home: Path, issuer: LoopbackIssuer
) -> None:
    one, other = start(home), start(home)
    assert other.turn("hello")["status"] == "completed"
    one.result("account/logout")
    assert other.until("account/updated") == {"authMode": None, "planType": None}
    assert other.turn("anybody?")["status"] == "failed"
    login = one.result("account/login/start", {"type": "chatgptDeviceCode"})
    issuer.approve_device(login["userCode"], email="second@example.com", account_id="org-2")
    assert other.until("account/updated") == {"authMode": "chatgpt", "planType": "plus"}
    assert other.turn("hello again")["status"] == "completed"
    assert other.result("account/read")["account"]["email"] == "second@example.com"


def test_sign_ins_and_sign_outs_of_codex_itself_are_applied(
    start: Callable[..., Agent], home: Path, issuer: LoopbackIssuer, codex: Path
) -> None:
    agent = start(home)
    environment = clean_environment(home, **issuer.environment)
    for words, mode in ((["logout"], None), (["login", "--with-api-key"], "apikey")):
        subprocess.run([codex, *words], input=b"sk-of-codex\n", env=environment, check=True, timeout=60)
        assert agent.until("account/updated")["authMode"] == mode
    assert agent.result("account/read")["account"] == {"type": "apiKey"}


def test_every_agent_reports_a_revoked_login(start: Callable[..., Agent], home: Path, issuer: LoopbackIssuer) -> None:
    agents = [start(home) for _ in range(2)]
    issuer.expire_access()
    issuer.revoke()
    for agent in agents:
        turn = agent.turn("hello")
        message = message_of(turn)
        assert "authstate login" in message
        assert "revoked" in message
        assert turn["error"]["codexErrorInfo"] == "unauthorized"
        assert agent.result("account/read")["account"] is None
        assert agent.result("getAuthStatus", {"includeToken": True})["authToken"] is None
    assert issuer.stats()["refreshes_refused"] <= len(agents), "a dead token is sent once in the life of a process"


def test_a_child_that_dies_during_a_refresh_request_leaves_the_login_intact(
    start: Callable[..., Agent], home: Path, issuer: LoopbackIssuer
) -> None:
    victim, survivor = start(home), start(home)
    issuer.expire_access()
    issuer.hold("refresh", times=1)
    victim.begin("hello")
    while not issuer.stats()["refresh_tokens_sent"]:
        victim.drain(0.01)
    kill_child_of(victim)
    issuer.release("refresh")
    assert victim.process.wait(timeout=60) == -signal.SIGKILL
    assert survivor.turn("still there")["status"] == "completed"
    stats = issuer.stats()
    assert (stats["refreshes_accepted"], stats["refreshes_refused"]) == (1, 0)


def kill_child_of(agent: Agent) -> None:
    [child] = Path(f"/proc/{agent.process.pid}/task/{agent.process.pid}/children").read_text().split()
    os.kill(int(child), signal.SIGKILL)


def test_the_child_holds_nothing_on_disk(
    start: Callable[..., Agent], make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    home = make_home(config=model_config(issuer))
    agent = start(home)
    tokens = issuer.seed(account_id="org-7", email="parent@example.com")
    params: dict[str, Any] = {"type": "chatgptAuthTokens", "chatgptAccountId": "org-7"}
    agent.result(
        "account/login/start", {**params, "idToken": tokens["id_token"], "accessToken": tokens["access_token"]}
    )
    assert agent.turn("hello")["status"] == "completed"
    assert agent.result("account/rateLimits/read")["rateLimits"]["primary"]["usedPercent"] == 42
    held = [tokens["access_token"].encode(), tokens["id_token"].encode()]
    for path in home.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not [token for token in held if token in data], path


def test_the_rate_limits_are_read_although_the_childs_token_is_refused(
    start: Callable[..., Agent], home: Path, issuer: LoopbackIssuer
) -> None:
    agent = start(home)
    issuer.expire_access()
    assert agent.result("account/rateLimits/read")["rateLimits"]["primary"]["usedPercent"] == 42
    stats = issuer.stats()
    assert (stats["refreshes_accepted"], stats["refreshes_refused"]) == (1, 0)


def test_a_device_login_through_wrap_lets_the_turn_run(
    start: Callable[..., Agent], make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    home = make_home(config=model_config(issuer))
    agent = start(home)
    login = agent.result("account/login/start", {"type": "chatgptDeviceCode"})
    issuer.approve_device(login["userCode"], email="person@example.com")
    completed = agent.until("account/login/completed")
    assert (completed["loginId"], completed["success"]) == (login["loginId"], True)
    assert agent.until("account/updated") == {"authMode": "chatgpt", "planType": "plus"}
    assert agent.turn("hello")["status"] == "completed"
    assert (home / "auth.json").exists()


def test_an_input_that_ends_in_the_middle_of_a_turn(
    start: Callable[..., Agent], home: Path, issuer: LoopbackIssuer
) -> None:
    """It ends as the codex itself does; the login stays whole."""
    ends = []
    for before in (WRAP, ()):
        agent = start(home, before)
        issuer.behave("model", mode="normal", delay=1.0, times=1)
        agent.begin("hello")
        agent.__exit__()
        ends.append(agent.process.returncode)
    assert ends[0] == ends[1] == 0
    issuer.behave("model")
    assert start(home).turn("hello again")["status"] == "completed"
