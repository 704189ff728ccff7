"""No secret in what `authstate app-server` and the commands write, but where the protocol says so."""

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from interop.traces import external_tokens
from support.wire_client import AUTHSTATE, Message, WireClient, clean_environment
from support.wrapped import Wrapped, fake_command

from authstate.testing import LoopbackIssuer

KEY = "sk-canary-of-the-test-1234567890"
MakeHome = Callable[..., Path]


class Recorder:
    """Every secret that a run had in its hands, and all that was written meanwhile."""

    def __init__(self) -> None:
        self.secrets: set[str] = set()
        self.written: list[str] = []

    def learn(self, tokens: dict[str, Any]) -> None:
        """Remember the secrets among these members."""
        names = ("id_token", "access_token", "refresh_token", "idToken", "accessToken", "apiKey")
        self.secrets |= {tokens[name] for name in names if name in tokens}

    def learn_stored(self, home: Path) -> None:
        """Remember what is stored now."""
        self.learn(json.loads((home / "auth.json").read_text())["tokens"])

    def assert_hidden(self) -> None:
        """Raises AssertionError without showing a secret."""
        for text in self.written:
            assert not [secret[:8] for secret in self.secrets if secret in text]


def test_no_secret_shows_on_the_wire_or_in_the_log(make_home: MakeHome, issuer: LoopbackIssuer, tmp_path: Path) -> None:
    home = make_home(email="person@example.com")
    recorder = Recorder()
    recorder.learn_stored(home)
    parents = [external_tokens(issuer) for _ in range(2)]
    answers = [{"result": {**parents[1], "chatgptAccountId": "org-8"}}, {"result": parents[1]}]  # one for each request
    with open(tmp_path / "errors", "w+b") as errors:
        environment = clean_environment(home, **issuer.environment)
        with WireClient(AUTHSTATE, environment, answer=lambda _: answers.pop(0), errors=errors) as client:
            client.initialize()
            client.result("account/read", {"refreshToken": True})
            recorder.learn_stored(home)
            handed_out = client.result("getAuthStatus", {"includeToken": True})
            assert handed_out["authToken"] in recorder.secrets, "here the protocol wants it"
            client.received.remove(next(one for one in client.received if one.get("result") == handed_out))
            issuer.expire_access()
            client.result("account/rateLimits/read")
            recorder.learn_stored(home)
            issuer.revoke()
            issuer.expire_access()
            assert "revoked" in client.call("account/rateLimits/read")["error"]["message"]
            play_logins(client, recorder, parents[0])
            recorder.learn(parents[1])
            issuer.expire_access()
            assert "org-8" in client.call("account/rateLimits/read")["error"]["message"]
            assert "status 401" in client.call("account/rateLimits/read")["error"]["message"]
            client.call("account/logout")
            client.send({"id": 1, "method": KEY, "params": {KEY: KEY}})
            client.drain(0.5)
        errors.seek(0)
        log = errors.read().decode()
    assert "refresh_failed" in log
    assert not answers
    assert len(recorder.secrets) >= 12
    recorder.written += [json.dumps(one) for one in client.received] + [log]
    recorder.assert_hidden()


def play_logins(client: WireClient, recorder: Recorder, parent: Message) -> None:
    """Logins that are taken, and such as are refused for their shape."""
    key = {"type": "apiKey", "apiKey": KEY}
    external = {"type": "chatgptAuthTokens", **parent}
    for params in (
        {**key, "apiKey": KEY + " " + KEY},
        {**key, "type": KEY},
        {**key, "apiKey": [KEY]},
        {**external, "idToken": KEY},
        {**external, "accessToken": {KEY: KEY}},
        key,
        external,
    ):
        client.call("account/login/start", params)
    recorder.learn(key)
    recorder.learn(parent)
    client.call("account/login/cancel", {"loginId": KEY})


def test_no_secret_shows_in_what_the_commands_write(make_home: MakeHome, issuer: LoopbackIssuer) -> None:
    home = make_home(email="person@example.com", expires_in=-60)
    recorder = Recorder()
    recorder.learn_stored(home)

    def run(*words: str, given: str = "") -> subprocess.CompletedProcess[str]:
        environment = clean_environment(home, **issuer.environment)
        done = subprocess.run([*AUTHSTATE, *words], input=given, capture_output=True, text=True, env=environment)
        recorder.written += [done.stdout, done.stderr]
        return done

    issuer.behave("refresh", mode="status", status=400, times=1)
    assert run("token").returncode == 4
    assert run("status", "--json").returncode == 0
    recorder.learn_stored(home)
    issuer.revoke()
    (home / "auth.json").write_text((home / "auth.json").read_text()[:-40])
    assert run("status").returncode == 1
    assert run("token").returncode == 1
    recorder.secrets.add(KEY)
    assert run("login", "--with-api-key", given=f"{KEY} {KEY}").returncode == 1
    assert run("login", "--with-api-key", given=KEY).returncode == 0
    assert run("status").returncode == 0
    assert run("logout").returncode == 0
    recorder.assert_hidden()
    assert run("login", "--with-api-key", given=KEY).returncode == 0
    assert run("token").stdout == KEY + "\n", "here it is asked for"


DEBUGGED = {"PYTHONASYNCIODEBUG": "1", "PYTHONDEVMODE": "1", "PYTHONWARNINGS": "ignore"}


@pytest.mark.parametrize("way", ["a child that is killed", "a child that refuses what it is given"])
def test_no_secret_shows_in_the_messages_of_wrap_about_a_child(
    make_home: MakeHome, issuer: LoopbackIssuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """In asyncio's debug mode, which logs slow tasks with their results, and calls with their arguments."""
    for name, value in DEBUGGED.items():
        monkeypatch.setenv(name, value)
    home = make_home(email="person@example.com")
    recorder = Recorder()
    recorder.learn_stored(home)
    refuses = way.endswith("given")
    with open(tmp_path / "errors", "w+b") as errors:
        with Wrapped(fake_command("refuses-keys" if refuses else "plain"), home, issuer, errors=errors) as front:
            front.handshake()
            front.result("x/token")
            issuer.expire_access()
            assert "result" in front.result("x/ask")["answers"][0]
            recorder.learn_stored(home)
            if refuses:
                recorder.secrets.add(KEY)
                front.call("account/login/start", {"type": "apiKey", "apiKey": KEY})
                front.result("x/token")
            issuer.revoke()
            issuer.expire_access()
            front.call("x/ask")
            told = [one for one in front.received if not front.methods.get(one.get("id"), "").startswith("x/")]
            if not refuses:
                front.start("x/kill", {"signal": int(signal.SIGSEGV)})
                assert front.process.wait(timeout=60) == -signal.SIGSEGV
        errors.seek(0)
        log = errors.read().decode()
    assert ("refused its tokens" in log) is refuses
    recorder.written += [log, *map(json.dumps, told)]
    assert len(recorder.secrets) >= 6
    recorder.assert_hidden()
