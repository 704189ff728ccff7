"""`authstate wrap` around a child that does as it is told: the login, the handshake, the order of things."""

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.wire_client import INITIALIZE, clean_environment
from support.wrapped import WRAP, Wrapped, children_of, fake_command, starter

from authstate.adapters.proxy.front_end import REFUSED
from authstate.testing import LoopbackIssuer

MakeHome = Callable[..., Path]
Start = Callable[..., Wrapped]
EXTERNAL = {"type": "chatgptAuthTokens", "chatgptAccountId": "org-7", "chatgptPlanType": "pro"}


@pytest.fixture
def start(make_home: MakeHome, issuer: LoopbackIssuer) -> Iterator[Start]:
    with ExitStack() as running:
        yield starter(running, make_home, issuer)


def external(issuer: LoopbackIssuer) -> dict[str, Any]:
    tokens = issuer.seed(account_id="org-7", email="parent@example.com")
    return {**EXTERNAL, "idToken": tokens["id_token"], "accessToken": tokens["access_token"]}


class TestLogin:
    def test_the_child_has_its_token_before_the_first_request(self, start: Start, issuer: LoopbackIssuer) -> None:
        front = start(email="person@example.com")
        for number, method in enumerate(("initialize", "x/token")):
            front.send({"id": number, "method": method, "params": INITIALIZE})
        held = front.answer_to(1)["result"]
        assert held["logins"] == ["chatgptAuthTokens"]
        assert held["token"].count(".") == 2
        assert front.notifications() == []

    def test_the_front_end_sees_the_person(self, start: Start) -> None:
        front = start(email="person@example.com")
        front.handshake()
        account = {"type": "chatgpt", "email": "person@example.com", "planType": "plus"}
        assert front.result("account/read") == {"account": account, "requiresOpenaiAuth": True}
        assert front.result("getAuthStatus")["authMethod"] == "chatgpt"

    def test_without_a_login_the_child_gets_no_tokens(self, start: Start) -> None:
        front = start()
        front.handshake()
        assert front.result("account/read")["account"] is None
        assert front.result("x/token") == {"token": None, "logins": []}

    def test_a_request_after_a_login_is_made_with_it(self, start: Start, issuer: LoopbackIssuer) -> None:
        front = start(email="person@example.com")
        front.handshake()
        front.start("account/login/start", {"type": "apiKey", "apiKey": "sk-behind-1"})
        behind = front.start("x/token")
        assert front.answer_to(behind)["result"]["token"] == "sk-behind-1"
        front.start("account/logout")
        behind = front.start("x/token")
        assert front.answer_to(behind)["result"]["token"] is None

    def test_requests_in_one_write_with_the_handshake_find_the_login(
        self, start: Start, issuer: LoopbackIssuer
    ) -> None:
        front = start(email="person@example.com")
        tokens = external(issuer)
        for number, (method, params) in enumerate(
            (("initialize", INITIALIZE), ("account/login/start", tokens), ("x/token", {}))
        ):
            front.send({"id": number, "method": method, "params": params})
        assert front.answer_to(2)["result"]["token"] == tokens["accessToken"]

    def test_notifications_of_a_login_come_once_in_order_and_are_the_persons(self, start: Start) -> None:
        front = start()
        front.handshake()
        front.result("account/login/start", {"type": "apiKey", "apiKey": "sk-told-1"})
        front.until("account/updated")
        front.result("account/logout")
        front.drain(0.2, after=lambda: len(front.notifications()) >= 3)
        told = [message.get("method", "answer") for message in front.received[1:]]
        assert told == ["answer", "account/login/completed", "account/updated", "answer", "account/updated"]
        modes = [m["params"]["authMode"] for m in front.received if m.get("method") == "account/updated"]
        assert modes == ["apikey", None]

    def test_a_front_end_does_not_get_notifications_that_it_opted_out_of(self, start: Start) -> None:
        front = start()
        front.handshake(optOutNotificationMethods=["account/updated"])
        front.result("account/login/start", {"type": "apiKey", "apiKey": "sk-quiet-1"})
        front.drain(0.2, after=lambda: bool(front.notifications()))
        assert front.notifications() == ["account/login/completed"]

    def test_a_front_end_that_brings_its_own_tokens_is_asked_for_newer_ones(
        self, start: Start, issuer: LoopbackIssuer
    ) -> None:
        newer = external(issuer)
        asked = []

        def answer(message: dict[str, Any]) -> dict[str, Any]:
            asked.append(message)
            return {"result": {name: newer[name] for name in ("idToken", "accessToken", "chatgptAccountId")}}

        front = start(answer=answer)
        front.handshake()
        front.result("account/login/start", external(issuer))
        answers = front.result("x/ask", {"account": "org-7"})["answers"]
        assert [one["result"]["accessToken"] for one in answers] == [newer["accessToken"]]
        assert [message["method"] for message in asked] == ["account/chatgptAuthTokens/refresh"]
        assert asked[0]["params"] == {"reason": "unauthorized", "previousAccountId": "org-7"}
        refused = front.call("account/login/start", {"type": "apiKey", "apiKey": "sk-1"})
        assert refused["error"]["code"] == -32600

    def test_a_login_in_another_window_reaches_the_child(self, make_home: MakeHome, issuer: LoopbackIssuer) -> None:
        home = make_home()
        with Wrapped(fake_command(), home, issuer) as one, Wrapped(fake_command(), home, issuer) as other:
            for front in (one, other):
                front.handshake()
                assert front.result("account/read")["account"] is None
            one.result("account/login/start", {"type": "apiKey", "apiKey": "sk-window-1"})
            assert other.result("account/read")["account"] == {"type": "apiKey"}
            assert other.result("x/token")["token"] == "sk-window-1"

    @pytest.mark.parametrize("what", ["log out", "another account", "an API key"])
    def test_sign_ins_and_sign_outs_of_another_window_are_applied(
        self, make_home: MakeHome, issuer: LoopbackIssuer, what: str
    ) -> None:
        home = make_home(email="person@example.com")
        with Wrapped(fake_command(), home, issuer) as one, Wrapped(fake_command(), home, issuer) as other:
            for front in (one, other):
                front.handshake()
                front.result("x/token")
            if what == "log out":
                one.result("account/logout")
            elif what == "an API key":
                one.result("account/login/start", {"type": "apiKey", "apiKey": "sk-window-1"})
            else:
                login = one.result("account/login/start", {"type": "chatgptDeviceCode"})
                issuer.approve_device(login["userCode"], email="second@example.com", account_id="org-2")
                assert one.until("account/login/completed")["success"]
            mode = {"log out": None, "an API key": "apikey"}.get(what, "chatgpt")
            assert other.until("account/updated")["authMode"] == mode
            held = one.result("x/token")["token"]
            other.result("account/read")
            assert other.result("x/token")["token"] == held
            assert other.result("account/read") == one.result("account/read")
            other.drain(2.5)
            assert other.notifications() == ["account/updated"]
        assert issuer.stats()["refreshes_accepted"] == 0

    def test_a_refresh_request_never_reaches_the_front_end(self, start: Start, issuer: LoopbackIssuer) -> None:
        front = start(email="person@example.com")
        front.handshake()
        before = front.result("x/token")["token"]
        answers = front.result("x/ask")["answers"]
        assert answers[0]["result"]["accessToken"] != before
        assert set(answers[0]["result"]) == {"accessToken", "idToken", "chatgptAccountId", "chatgptPlanType"}
        assert "account/chatgptAuthTokens/refresh" not in front.notifications()
        assert issuer.stats()["refreshes_accepted"] == 1

    def test_one_id_twice_is_answered_twice_with_one_refresh(self, start: Start, issuer: LoopbackIssuer) -> None:
        front = start(email="person@example.com")
        front.handshake()
        front.result("x/token")
        one, other = front.result("x/ask", {"times": 2})["answers"]
        assert one == other
        assert issuer.stats()["refreshes_accepted"] == 1

    def test_the_turn_that_fails_reports_a_revoked_login(self, start: Start, issuer: LoopbackIssuer) -> None:
        front = start(email="person@example.com")
        front.handshake()
        issuer.revoke()
        assert front.result("x/ask")["answers"][0]["error"]["code"] == -32603
        error = '{"error": {"message": "auth refresh request failed: code=-32603", "codexErrorInfo": "other"}}'
        front.result("x/say", {"line": f'{{"method": "error", "params": {error}}}'})
        front.result("x/say", {"line": f'{{"method": "item/completed", "params": {error}}}'})
        told = {m["method"]: m["params"]["error"] for m in front.received if "method" in m}
        assert "authstate login" in told["error"]["message"]
        assert "revoked" in told["error"]["message"]
        assert told["error"]["codexErrorInfo"] == "unauthorized"
        assert told["item/completed"]["codexErrorInfo"] == "other"
        assert front.result("account/read") == {"account": None, "requiresOpenaiAuth": True}
        assert front.result("getAuthStatus", {"includeToken": True})["authToken"] is None
        assert told["item/completed"]["message"].startswith("auth refresh request failed")

    def test_an_expired_login_is_refreshed_before_the_child_gets_it(self, start: Start, issuer: LoopbackIssuer) -> None:
        front = start(email="person@example.com", expires_in=-10)
        front.handshake()
        assert front.result("x/token")["logins"] == ["chatgptAuthTokens"]
        assert issuer.stats()["refreshes_accepted"] == 1


def test_no_secret_shows(make_home: MakeHome, issuer: LoopbackIssuer, tmp_path: Path) -> None:
    """Not on standard error, in the arguments or the environment of a process, or in what the front-end is told."""
    home = make_home(email="person@example.com", expires_in=100)
    secrets = set(json.loads((home / "auth.json").read_text())["tokens"].values()) - {"org-1"}
    shown = []
    with (
        open(tmp_path / "errors", "w+b") as errors,
        Wrapped(fake_command("refuses-keys"), home, issuer, errors=errors) as front,
    ):
        front.handshake()
        issuer.revoke()
        front.result("x/ask", {"times": 2})
        key = "sk-secret-of-the-test-1234567890"
        for params in ({"type": "apiKey", "apiKey": key}, external(issuer), {"type": "apiKey", "apiKey": key + "!"}):
            front.call("account/login/start", params)
            secrets |= {value for name, value in params.items() if name in ("apiKey", "idToken", "accessToken")}
        front.result("x/ask", {"account": "org-8"})
        for method in ("account/logout", "account/read", "getAuthStatus", "account/rateLimits/read"):
            front.call(method)
        pids = (front.process.pid, *children_of(front))
        shown += [Path(f"/proc/{pid}/{what}").read_text() for pid in pids for what in ("cmdline", "environ")]
        told = [one for one in front.received if not front.methods.get(one.get("id"), "").startswith("x/")]
        shown += map(json.dumps, told)
        front.end()
        errors.seek(0)
        shown.append(errors.read().decode())
    assert len(secrets) >= 7
    assert "revoked" in shown[-1]
    assert "child" in shown[-1]
    for text in shown:
        assert not [secret[:8] for secret in secrets if secret in text]


class TestHandshake:
    def test_before_initialize_nothing_is_answered(self, start: Start) -> None:
        front = start(email="person@example.com")
        assert front.call("account/read")["error"] == {"code": -32600, "message": "Not initialized"}
        front.handshake()
        assert front.result("account/read")["account"]["type"] == "chatgpt"

    def test_one_that_the_child_refuses_may_be_tried_again(self, start: Start) -> None:
        front = start("refuses", email="person@example.com")
        front.send({"id": "a", "method": "initialize", "params": INITIALIZE})
        waiting = front.start("account/read")
        assert front.answer_to(waiting)["error"]["message"] == "Not initialized"
        assert front.received[0]["error"]["message"] == "not today"
        front.handshake()
        assert front.result("x/token")["logins"] == ["chatgptAuthTokens"]

    def test_initialize_gets_the_capability_that_tokens_need(self, start: Start) -> None:
        front = start()
        result = front.handshake(optOutNotificationMethods=["thread/started"])
        assert result["capabilities"] == {"experimentalApi": True, "optOutNotificationMethods": ["thread/started"]}

    def test_a_retired_login_is_refused(self, start: Start) -> None:
        front = start()
        front.handshake()
        error = front.call("loginApiKey", {"apiKey": "sk-1"})["error"]
        assert error["code"] == -32600
        assert "account/login/start" in error["message"]
        assert front.result("x/token")["logins"] == []

    @pytest.mark.parametrize("method", sorted(REFUSED))
    def test_what_would_give_the_child_a_login_of_its_own_is_refused(self, start: Start, method: str) -> None:
        front = start(email="person@example.com")
        front.handshake()
        error = front.call(method, {})["error"]
        assert (error["code"], error["message"]) == (-32600, REFUSED[method])
        assert front.result("x/token")["logins"] == ["chatgptAuthTokens"]

    def test_text_of_the_child_that_is_not_json_passes(self, start: Start, make_home: MakeHome) -> None:
        front = subprocess.Popen(
            [*WRAP, *fake_command("prints-text"), "app-server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=clean_environment(make_home()),
        )
        said, _ = front.communicate(b'{"id":1,"method":"initialize","params":{}}\n', timeout=60)
        lines = said.splitlines()
        assert lines[0] == b"warming up: this is no JSON"
        assert b"fake/1.0" in lines[-1]
        assert front.returncode == 0


class TestIds:
    def test_the_front_end_may_use_any_id_and_use_it_again(self, start: Start) -> None:
        front = start(email="person@example.com")
        front.handshake()
        front.result("account/read")
        for number in (7, 7, "authstate-0-0", "", -1, "ü"):
            front.send({"id": number, "method": "x/echo", "params": {"n": str(number)}})
            front.send({"id": number, "method": "account/read"})
        front.result("x/token")
        answered = [message for message in front.received[2:] if "method" not in message]
        echoes = [m["result"]["echo"]["n"] for m in answered if "echo" in m.get("result", {})]
        assert echoes == ["7", "7", "authstate-0-0", "", "-1", "ü"]
        assert [m["id"] for m in answered if "account" in m.get("result", {})] == [7, 7, "authstate-0-0", "", -1, "ü"]

    def test_a_child_whose_id_looks_like_one_of_authstate_gets_the_front_ends_answer(self, start: Start) -> None:
        answers = {"result": {"approved": True}}
        front = start(answer=lambda message: answers, email="person@example.com")
        front.handshake()
        for number in ('"authstate-1-0"', "0", '"0"'):
            line = f'{{"id": {number}, "method": "x/approve", "params": {{}}}}'
            front.result("x/say", {"line": line})
        front.result("x/token")
        given = [m["params"] for m in front.received if m.get("method") == "x/answered"]
        assert [one["id"] for one in given] == ["authstate-1-0", 0, "0"]
        assert all(one["result"] == {"approved": True} for one in given)
